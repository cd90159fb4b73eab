import { copyButton } from "./copy.js";
import { make } from "./elements.js";
import { appendText } from "./text-nodes.js";
import { label } from "./words.js";

/** Limit on highlighting, in characters: it blocks the page while it runs. */
const LONGEST_HIGHLIGHTED = 50_000;

/**
 * @typedef {object} Code
 * @property {string} info the rest of the fence's line: the language, and anything after it
 * @property {string} text
 * @property {boolean} whole whether the block has ended
 */

/**
 * A block of code with its fence's info, a button to copy it, and highlighting once it is whole.
 */
export function codeBlock() {
  const code = make("code");
  const info = make("span");
  /** @type {Code} */
  let shown = { info: "", text: "", whole: false };
  const caption = make(
    "figcaption",
    {},
    info,
    copyButton(() => shown.text),
  );
  const text = label(make("pre", { tabindex: "0", role: "group", dir: "ltr" }, code), "code", "label");
  return {
    figure: make("figure", { class: "code" }, caption, text),
    /** @param {Code} next */
    show(next) {
      if (next.info !== shown.info) {
        info.textContent = next.info;
      }
      if (next.text !== shown.text) {
        if (shown.whole || !next.text.startsWith(shown.text)) {
          code.replaceChildren();
          shown = { ...shown, text: "" };
        }
        appendText(code, next.text.slice(shown.text.length));
      }
      if (next.whole && !shown.whole) {
        colour(code, next);
      }
      shown = next;
    },
  };
}

/**
 * Highlight a block. The highlighter is loaded when the first block needs it.
 *
 * @param {HTMLElement} code
 * @param {Code} block
 */
async function colour(code, { info, text }) {
  const language = /^\S*/.exec(info)?.[0] ?? "";
  if (language === "" || text.length > LONGEST_HIGHLIGHTED) {
    return;
  }
  try {
    const { highlight } = await import("./highlighter.js");
    const nodes = highlight(text, language);
    if (nodes && code.textContent === text) {
      code.replaceChildren(nodes);
    }
  } catch {
    // The network may be gone. The code is readable without colours.
  }
}
