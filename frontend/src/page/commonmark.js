import MarkdownIt from "markdown-it";

/** @import { StateBlock, StateInline } from "markdown-it" */

/** Levels of nested quotes and lists; a list counts two, itself and its item. */
const DEEPEST = 20;
/** A formula's end is looked for no further than this, or a text of openings would take quadratic time. */
const LONGEST_FORMULA = 2000;
const FORMULAS = [
  ["\\(", "\\)"],
  ["\\[", "\\]"],
  ["$$", "$$"],
];
/**
 * Names that CommonMark takes for emphasis: `__init__`, `__FILE__`, and the globs of an extension, in a directory or in
 * all below it. The lengths are bounded because the search begins anew at each underscore.
 */
const NAMES =
  /(?<!\w)__(?:[a-z][a-z0-9_]{0,60}|[A-Z][A-Z0-9_]{0,60})__(?!\w)|(?<![\w*])(?:\*\*\/){0,9}\*\.[a-z0-9]{1,9}(?![\w*])/y;

// HTML is off by default: it is shown as text.
const parser = new MarkdownIt({ linkify: true });
// Only an address with its scheme becomes a link by itself: "main.py" and "a.b@c.d" would, too.
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
// A definition (`[1]: https://…`) may come at an answer's end, long after the blocks that refer to it were shown; one that
// nothing refers to would not be shown at all.
parser.disable("reference");
// What leads nowhere is no link, and stays as it was written: `handlers[name](event)` is seldom meant as one.
parser.normalizeLink = (address) => safeAddress(address) ?? "";
parser.validateLink = (address) => address !== "";
// An address in the text is shown as it was written.
parser.normalizeLinkText = String;
parser.block.ruler.before("table", "too_deep", tooDeep);
parser.inline.ruler.before("escape", "formula", formula);
parser.inline.ruler.before("emphasis", "name", name);

/** @param {string} text */
export function blockTokens(text) {
  /** @type {import("markdown-it").Token[]} */
  const tokens = [];
  parser.block.parse(text, parser, {}, tokens);
  return tokens;
}

/** @param {string} content of a paragraph, a heading or a cell */
export function inlineTokens(content) {
  return parser.parseInline(content, {})[0]?.children ?? [];
}

/** @param {string} address @returns {string | null} */
function safeAddress(address) {
  // Without a base: a relative address leads nowhere.
  const url = URL.canParse(address) ? new URL(address) : null;
  return url && (url.protocol === "https:" || url.protocol === "http:") ? url.href : null;
}

/**
 * Block rule: what is nested too deeply becomes one paragraph. The parser's own limit drops the text.
 *
 * @param {StateBlock} state
 * @param {number} startLine
 * @param {number} endLine
 */
function tooDeep(state, startLine, endLine) {
  if (state.level < DEEPEST) {
    return false;
  }
  let line = startLine + 1;
  while (line < endLine && (state.isEmpty(line) || (state.sCount[line] ?? 0) >= state.blkIndent)) {
    line += 1;
  }
  state.line = line;
  state.push("paragraph_open", "p", 1).map = [startLine, line];
  state.push("inline", "", 0).content = state.getLines(startLine, line, state.blkIndent, false).trim();
  state.push("paragraph_close", "p", -1);
  return true;
}

/**
 * Inline rule: a formula's source is shown as it is. To CommonMark its backslashes and asterisks are marks.
 *
 * @param {StateInline} state
 * @param {boolean} silent
 */
function formula(state, silent) {
  const delimiters = FORMULAS.find(([open = ""]) => state.src.startsWith(open, state.pos));
  if (!delimiters) {
    return false;
  }
  const [open = "", close = ""] = delimiters;
  const source = state.src.slice(state.pos, Math.min(state.pos + LONGEST_FORMULA, state.posMax));
  const end = source.indexOf(close, open.length);
  if (end <= open.length) {
    return false;
  }
  if (!silent) {
    state.push("code_inline", "code", 0).content = source.slice(0, end + close.length);
  }
  state.pos += end + close.length;
  return true;
}

/**
 * Inline rule: a name keeps its marks.
 *
 * @param {StateInline} state
 * @param {boolean} silent
 */
function name(state, silent) {
  NAMES.lastIndex = state.pos;
  const found = NAMES.exec(state.src)?.[0];
  if (found === undefined || state.pos + found.length > state.posMax) {
    return false;
  }
  if (!silent) {
    state.pending += found;
  }
  state.pos += found.length;
  return true;
}
