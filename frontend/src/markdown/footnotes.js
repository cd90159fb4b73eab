import { make } from "./elements.js";

/** @import { ElementView } from "./patch.js" */

let answers = 0;

/**
 * The views of an answer's footnotes and of what refers to them. A footnote stands where it is written, with its label as it is
 * written: numbers by order would change when an earlier one comes late.
 */
export function createFootnotes() {
  answers += 1;
  const answer = answers;
  /** @type {Map<string, number>} */
  const numbers = new Map();
  /** @param {string} label @param {"note" | "from"} end */
  const idOf = (label, end) => {
    numbers.set(label, numbers.get(label) ?? numbers.size + 1);
    // Of numbers only: an id must not be what a model chooses.
    return `${end}-${answer}-${numbers.get(label)}`;
  };

  return {
    /** A footnote, to which its blocks are added. @param {string} label */
    noteView(label) {
      /** @type {ElementView & {children: import("./patch.js").View[]}} */
      const view = {
        tag: "div",
        attributes: { class: "footnote", role: "note", id: idOf(label, "note"), dir: "auto", tabindex: "-1" },
        prefix: () => linkTo(idOf(label, "from"), label, "footnote-label"),
        children: [],
      };
      return view;
    },
    /** A reference to a footnote. @param {string} label @returns {ElementView} */
    referenceView: (label) => ({
      tag: "sup",
      attributes: { id: idOf(label, "from"), class: "footnote-reference" },
      prefix: () => linkTo(idOf(label, "note"), label, ""),
      children: [],
    }),
  };
}

/**
 * A link within the answer. It does not change the page's address, which may mean something to the page.
 *
 * @param {string} id
 * @param {string} text
 * @param {string} className
 */
function linkTo(id, text, className) {
  const link = make("a", { href: `#${id}`, ...(className && { class: className }) }, text);
  link.addEventListener("click", (press) => {
    press.preventDefault();
    const target = document.getElementById(id);
    target?.scrollIntoView({ block: "nearest" });
    (target?.querySelector("a") ?? target)?.focus({ preventScroll: true });
  });
  return link;
}
