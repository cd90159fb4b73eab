import { readStored, store } from "./storage.js";

/** @typedef {typeof import("./english.js").ENGLISH} Words */
/** @typedef {keyof typeof LANGUAGES} Language */
/** @typedef {Exclude<keyof Words, "errors">} Word */

/** Each language is a script of its own: a reader loads one, and the other when switching. */
const LANGUAGES = {
  en: async () => (await import("./english.js")).ENGLISH,
  hu: async () => (await import("./hungarian.js")).HUNGARIAN,
};
const CHOICE = "folyam.language";

/** @type {Language} */
let language = firstLanguage();
/** @type {Words} */
let words = await LANGUAGES[language]();

/** Return the reader's choice, else the browser's first language that the page has, else English. */
function firstLanguage() {
  const chosen = readStored(CHOICE);
  const speaks = [chosen, ...navigator.languages].map((tag) => tag?.slice(0, 2).toLowerCase());
  return speaks.find((tag) => tag === "en" || tag === "hu") === "hu" ? "hu" : "en";
}

export function currentLanguage() {
  return language;
}

/** Return the language's form for dates and numbers that the browser is set to, such as en-GB. */
export function locale() {
  return navigator.languages.find((tag) => tag.toLowerCase().startsWith(language)) ?? language;
}

/** Switch to the other language. If its words cannot be loaded, as without a network, the language stays. */
export async function switchLanguage() {
  const other = language === "hu" ? "en" : "hu";
  try {
    words = await LANGUAGES[other]();
  } catch {
    return;
  }
  language = other;
  store(CHOICE, language);
}

/**
 * @param {Word} word
 * @param {Record<string, string | number>} [values]
 */
export function say(word, values = {}) {
  return words[word].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/**
 * Return the reason for a failure in the reader's language, or the server's message if the code is unknown.
 *
 * @param {{code: string, message: string}} failure
 */
export function reasonFor({ code, message }) {
  /** @type {Record<string, string>} */
  const errors = words.errors;
  return Object.hasOwn(errors, code) ? String(errors[code]) : message;
}

/**
 * @param {number} value
 * @param {number} [digits]
 */
export function formatNumber(value, digits = 0) {
  return value.toLocaleString(locale(), { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/**
 * Show a word in an element, and translate it when the language changes.
 *
 * @template {HTMLElement} E
 * @param {E} element
 * @param {Word} word
 * @param {"text" | "label" | "placeholder"} [as]
 */
export function label(element, word, as = "text") {
  element.dataset[`say${as}`] = word;
  apply(element, word, as);
  return element;
}

const AS = /** @type {const} */ (["text", "label", "placeholder"]);

/** @param {ParentNode} root */
export function relabel(root) {
  document.documentElement.lang = language;
  for (const as of AS) {
    for (const element of root.querySelectorAll(`[data-say${as}]`)) {
      if (element instanceof HTMLElement) {
        apply(element, /** @type {Word} */ (element.dataset[`say${as}`]), as);
      }
    }
  }
}

/**
 * @param {HTMLElement} element
 * @param {Word} word
 * @param {(typeof AS)[number]} as
 */
function apply(element, word, as) {
  if (as === "text") {
    element.textContent = say(word);
  } else {
    element.setAttribute(as === "label" ? "aria-label" : as, say(word));
  }
}
