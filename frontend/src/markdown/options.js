import { webAddress } from "./addresses.js";
import { plainCopyButton } from "./copy.js";
import { ENGLISH } from "./english.js";

/**
 * @typedef {keyof typeof ENGLISH} Word what the renderer itself says
 *
 * @typedef {{text: string} | {tag: "span", attributes: {class: string}, children: Coloured[]}} Coloured a part of highlighted
 *   code
 *
 * @typedef {object} Highlighter
 * @property {(code: string, language: string) => Coloured[] | null} highlight null: an unknown language
 *
 * @typedef {object} Maths
 * @property {(tex: string, display: boolean) => Element} mathOf a formula's MathML; throws if the formula is wrong
 *
 * @typedef {object} Options
 * @property {(address: string) => string | null} [addressOf] the http(s) address that a link leads to, or null if it stays
 *   text; by default every absolute one
 * @property {(level: number, previous: number) => number} [headingLevel] the level of a heading that is written with a level,
 *   behind a heading of the previous level (0: there is none)
 * @property {(element: HTMLElement, word: Word, as: "text" | "label") => void} [label] say a word in an element, as its text
 *   or as its name for assistive technology; by default in English
 * @property {(text: () => string) => HTMLElement} [copyButton] a button that copies a block of code
 * @property {(() => Promise<Highlighter>) | null} [highlighter] called for the first block of code in some language; null: code
 *   has no colours
 * @property {(() => Promise<Maths>) | null} [maths] called for the first formula; null: formulas are shown as written
 */

/** @type {Required<Options>} */
export const DEFAULTS = {
  addressOf: webAddress,
  headingLevel: (level) => level,
  label(element, word, as) {
    if (as === "text") {
      element.textContent = ENGLISH[word];
    } else {
      element.setAttribute("aria-label", ENGLISH[word]);
    }
  },
  copyButton: plainCopyButton,
  highlighter: () => import("./highlighter.js"),
  maths: () => import("./maths.js"),
};
