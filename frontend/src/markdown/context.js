import { webAddress } from "./addresses.js";
import { createParser } from "./commonmark.js";
import { createFootnotes } from "./footnotes.js";
import { DEFAULTS } from "./options.js";
import { References } from "./references.js";

/** @import { Parser } from "./commonmark.js" */
/** @import { Options } from "./options.js" */

/**
 * What an answer's blocks share.
 *
 * @typedef {object} Context
 * @property {Parser} parser
 * @property {References} references
 * @property {ReturnType<typeof createFootnotes>} footnotes
 * @property {Required<Options>} options
 */

/** Parsers by their policy for addresses: making one takes longer than parsing a paragraph. @type {WeakMap<Function, Parser>} */
const parsers = new WeakMap();

/** @param {Options} given @returns {Context} */
export function createContext(given) {
  const options = { ...DEFAULTS, ...given };
  const parser = parsers.get(options.addressOf) ?? createParser(safe(options.addressOf));
  parsers.set(options.addressOf, parser);
  return { parser, references: new References(), footnotes: createFootnotes(), options };
}

/** No policy may let an answer run a script. @param {(address: string) => string | null} addressOf */
const safe = (addressOf) => (/** @type {string} */ address) => webAddress(addressOf(address) ?? "");
