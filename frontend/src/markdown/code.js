import { Colours } from "./colours.js";
import { make } from "./elements.js";
import { appendText } from "./text-nodes.js";

/** @import { Context } from "./context.js" */
/** @import { patchAll } from "./patch.js" */

/**
 * @typedef {object} Code
 * @property {string} info the rest of the fence's line: the language, and anything after it
 * @property {string[]} before the text that will not change, in pieces; only ever added to
 * @property {string} text the text behind it
 * @property {boolean} isEnded whether no more code will come
 */

/**
 * A block of code with its fence's info, buttons to wrap its lines and to copy it, and highlighting while it grows. What it
 * does for a piece does not depend on how long the code is.
 *
 * @param {Context} context
 * @param {typeof patchAll} patch
 */
export function codeBlock(context, patch) {
  const code = make("code");
  const info = make("span");
  /** @type {Code} */
  let shown = { info: "", before: [], text: "", isEnded: false };
  let colours = new Colours(context, patch, code);
  const tail = createTail(code, () => textOf(shown));
  const copy = context.options.copyButton(() => textOf(shown));
  const pre = make("pre", { tabindex: "0", role: "group", dir: "ltr" }, code);
  context.options.label(pre, "code", "label");
  const buttons = make("span", { class: "buttons" }, wrapButton(context, pre), copy);
  return {
    figure: make("figure", { class: "code" }, make("figcaption", {}, info, buttons), pre),
    /** @param {Code} next */
    show(next) {
      if (next.info !== shown.info) {
        info.textContent = next.info;
      }
      shown = next;
      if (!tail.show(next)) {
        colours.stop();
        colours = new Colours(context, patch, code);
      }
      colours.show(next);
    },
  };
}

/** The last line's end is not shown, nor copied. @param {Code} code */
const textOf = ({ before, text }) => (before.join("") + text).replace(/\n$/, "");

/** @param {Context} context @param {HTMLElement} pre */
function wrapButton(context, pre) {
  const button = make("button", { type: "button", class: "quiet", "aria-pressed": "false" });
  context.options.label(button, "wrap", "text");
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(pre.classList.toggle("wrap")));
  });
  return button;
}

/**
 * The end of the shown text, which may change.
 *
 * @param {HTMLElement} code
 * @param {() => string} all
 */
function createTail(code, all) {
  let pieces = 0;
  /** A line's end that is shown when another line comes. */
  let lineEnd = "";
  let shown = "";

  return {
    /** Show what differs. Returns false if all had to be shown anew. @param {Code} next */
    show({ before, text }) {
      const settled = lineEnd + before.slice(pieces).join("");
      const visible = (settled + text).replace(/\n$/, "");
      const grows = visible.startsWith(shown) && pieces <= before.length;
      if (grows) {
        appendText(code, visible.slice(shown.length));
      } else {
        code.replaceChildren();
        appendText(code, all());
      }
      const body = settled.replace(/\n$/, "");
      lineEnd = settled.slice(body.length);
      shown = visible.slice(body.length);
      pieces = before.length;
      return grows;
    },
  };
}
