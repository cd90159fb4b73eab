import MarkdownIt from "markdown-it";
import { addAddressRules } from "./rules/addresses.js";
import { footnote, footnoteReference } from "./rules/footnotes.js";
import { formula, formulaBlock } from "./rules/formulas.js";
import { name } from "./rules/names.js";
import { addStrikethrough } from "./rules/strikethrough.js";
import { tooDeep } from "./rules/too-deep.js";

/** @import { StateBlock, Token } from "markdown-it" */
/** @import { References } from "./references.js" */

/**
 * Where a block begins.
 *
 * @typedef {object} Beginning
 * @property {number} offset of its first character in the text, behind the marks of what it is in
 * @property {boolean} blankBefore whether the line before it is blank
 *
 * @typedef {object} BlockEnvironment what block rules know beside the text
 * @property {boolean} isWhole whether no more text will come
 * @property {Map<string, Beginning>} beginnings by `line:level`; of blocks that begin in one line, the outermost of a level
 */

/**
 * Make a parser of CommonMark 0.31 with GFM's tables, strikethrough, tasks and addresses, footnotes and formulas. HTML is
 * text.
 *
 * markdown-it, because it and micromark are the ones that pass all 652 examples of CommonMark's specification (marked: 619).
 * Of the two, markdown-it is nine times as fast, and withstands hostile text: 50,000 brackets take 0.4 s, and take
 * commonmark.js 14 s with an address behind each.
 *
 * @param {(address: string) => string | null} addressOf the address that a link may lead to, or null
 */
export function createParser(addressOf) {
  const parser = new MarkdownIt();
  // A link without a permitted address stays text: `handlers[name](event)` is seldom meant as a link.
  parser.normalizeLink = (address) => addressOf(address) ?? "";
  parser.validateLink = (address) => address !== "";
  // Show addresses in the text as written.
  parser.normalizeLinkText = String;
  const { block, inline } = parser;
  block.State = class extends block.State {
    /** @param {string} type @param {string} tag @param {-1 | 0 | 1} nesting @override */
    push(type, tag, nesting) {
      const token = super.push(type, tag, nesting);
      if (type === "list_item_open") {
        token.meta = { blankBefore: isBlankBefore(this, this.line) };
      }
      return token;
    }
  };
  block.ruler.before("table", "beginning", noteBeginning);
  block.ruler.before("table", "too_deep", tooDeep);
  const everywhere = { alt: ["paragraph", "reference", "blockquote", "list"] };
  block.ruler.before("fence", "formula", formulaBlock, everywhere);
  block.ruler.before("reference", "footnote", footnote, { alt: ["paragraph", "reference"] });
  inline.ruler.before("escape", "formula", formula);
  inline.ruler.before("emphasis", "name", name);
  inline.ruler.before("link", "footnote", footnoteReference);
  addStrikethrough(parser);
  addAddressRules(parser);
  return parser;
}

/** @typedef {ReturnType<typeof createParser>} Parser */

/**
 * @param {Parser} parser
 * @param {string} text
 * @param {boolean} isWhole whether no more text will come
 */
export function blockTokens(parser, text, isWhole) {
  /** @type {Token[]} */
  const tokens = [];
  /** @type {BlockEnvironment & {references: Record<string, {href: string, title: string}>}} */
  const environment = { isWhole, beginnings: new Map(), references: Object.create(null) };
  parser.block.parse(text, parser, environment, tokens);
  return { tokens, ...environment };
}

/**
 * @param {Parser} parser
 * @param {string} content of a paragraph, a heading or a cell
 * @param {References} references
 */
export function inlineTokens(parser, content, references) {
  /** @type {Token[]} */
  const tokens = [];
  parser.inline.parse(content, parser, references.environment, tokens);
  return tokens;
}

/** @param {StateBlock} state @param {number} line */
const isBlankBefore = (state, line) => line > 0 && state.isEmpty(line - 1);

/**
 * Block rule that only notes where blocks begin.
 *
 * @param {StateBlock} state
 * @param {number} line
 */
function noteBeginning(state, line) {
  const { beginnings } = /** @type {BlockEnvironment} */ (/** @type {unknown} */ (state.env));
  const offset = Number(state.bMarks[line]) + Number(state.tShift[line]);
  beginnings.set(`${line}:${state.level}`, { offset, blankBefore: isBlankBefore(state, line) });
  return false;
}
