import { make } from "./elements.js";
import { appendText } from "./text-nodes.js";

/** @import { Code } from "./code.js" */
/** @import { Context } from "./context.js" */
/** @import { Highlighter } from "./options.js" */
/** @import { patchAll, View } from "./patch.js" */

/** Limit on what is highlighted at once, in characters: it takes 15 ms, and blocks the page. */
const LONGEST_PART = 8000;
/** A growing part is coloured again when it has grown by this part, so that all times together take as long as some. */
const GROWTH = 1 / 8;
/** A part as short as this, in characters, is coloured at every line. */
const SHORT = 1000;

/** The colours of a block's complete lines. They are made in parts, so that what it takes does not grow with the block. */
export class Colours {
  #context;
  #patch;
  #code;
  /** @type {Highlighter | null} */
  #highlighter = null;
  #isAsked = false;
  #isStopped = false;
  /** The last part's element, behind which is the text without colours. */
  #element = make("span");
  /** @type {View[]} */
  #views = [];
  /** The length of what is coloured in the last part. */
  #length = 0;
  /** The last part's text that will not change. */
  #settled = "";
  #pieces = 0;
  /** @type {Code} */
  #last = { info: "", before: [], text: "", isEnded: false };

  /** @param {Context} context @param {typeof patchAll} patch @param {HTMLElement} code */
  constructor(context, patch, code) {
    this.#context = context;
    this.#patch = patch;
    this.#code = code;
  }

  /** @param {Code} code */
  async show(code) {
    this.#last = code;
    this.#settled += code.before.slice(this.#pieces).join("");
    this.#pieces = code.before.length;
    const { highlighter } = this.#context.options;
    if (languageOf(code) === "" || !highlighter) {
      return;
    }
    if (!this.#isAsked) {
      this.#isAsked = true;
      // The network may be gone. The code is readable without colours.
      this.#highlighter = await highlighter().catch(() => null);
    }
    if (this.#highlighter && !this.#isStopped) {
      this.#colour(this.#highlighter);
    }
  }

  /** The code is shown anew, by others. */
  stop() {
    this.#isStopped = true;
  }

  /** @param {Highlighter} highlighter */
  #colour(highlighter) {
    const { isEnded } = this.#last;
    let text = this.#settled + this.#last.text;
    while ((isEnded ? text : this.#settled).length > LONGEST_PART) {
      const end = endOfPart(text);
      this.#show(highlighter, text, end);
      this.#beginPart(end);
      text = text.slice(end);
    }
    const end = isEnded ? text.length : text.lastIndexOf("\n") + 1;
    const isEachLine = isEnded || this.#length <= SHORT;
    if (end <= LONGEST_PART && end - this.#length > (isEachLine ? 0 : this.#length * GROWTH)) {
      this.#show(highlighter, text, end);
    }
  }

  /** Colour the last part as far as `end`. @param {Highlighter} highlighter @param {string} text @param {number} end */
  #show(highlighter, text, end) {
    const visible = text.replace(/\n$/, "");
    const lines = visible.slice(0, end);
    const views = highlighter.highlight(lines, languageOf(this.#last));
    if (!views) {
      return;
    }
    this.#patch(this.#context, this.#views, views, (node) => this.#element.append(node));
    this.#views = views;
    this.#length = end;
    if (this.#element.parentNode !== this.#code) {
      this.#code.replaceChildren(this.#element);
    }
    while (this.#element.nextSibling) {
      this.#element.nextSibling.remove();
    }
    appendText(this.#code, visible.slice(lines.length));
  }

  /** @param {number} at where the last part ends */
  #beginPart(at) {
    const element = make("span");
    this.#element.after(element);
    this.#element = element;
    this.#views = [];
    this.#length = 0;
    this.#settled = this.#settled.slice(at);
  }
}

/** A part ends with a blank line, if one is near: there, most languages have nothing open. @param {string} text */
function endOfPart(text) {
  const blank = text.lastIndexOf("\n\n", LONGEST_PART - 2) + 2;
  const line = text.lastIndexOf("\n", LONGEST_PART - 1) + 1;
  return blank > LONGEST_PART / 2 ? blank : line > 0 ? line : LONGEST_PART;
}

/** @param {Code} code */
const languageOf = ({ info }) => /^\S*/.exec(info)?.[0] ?? "";
