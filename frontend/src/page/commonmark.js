import MarkdownIt from "markdown-it";

/** @import { StateBlock, StateInline } from "markdown-it" */

/** Levels of nested quotes and lists; a list counts two, itself and its item. */
const DEEPEST = 20;
/** Limit on the search for a formula's end. Without it, a text of openings would take quadratic time. */
const LONGEST_FORMULA = 2000;
const FORMULAS = [
  ["\\(", "\\)"],
  ["\\[", "\\]"],
  ["$$", "$$"],
];
/**
 * Names that CommonMark takes for emphasis: `__init__`, `__FILE__`, and the globs of an extension, in a directory or in
 * all below it. The lengths are bounded because the search restarts at each underscore.
 */
const NAMES =
  /(?<!\w)__(?:[a-z][a-z0-9_]{0,60}|[A-Z][A-Z0-9_]{0,60})__(?!\w)|(?<![\w*])(?:\*\*\/){0,9}\*\.[a-z0-9]{1,9}(?![\w*])/y;

// HTML is off by default: it is shown as text.
const parser = new MarkdownIt({ linkify: true });
// Only addresses with a scheme become links. Without this, "main.py" and "a.b@c.d" would.
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
// Definitions (`[1]: https://…`) stay text. One may come at an answer's end, long after the blocks that refer to it were
// shown, and one without references would be dropped.
parser.disable("reference");
// A link without a safe absolute address stays text: `handlers[name](event)` is seldom meant as a link.
parser.normalizeLink = (address) => safeAddress(address) ?? "";
parser.validateLink = (address) => address !== "";
// Show addresses in the text as written.
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
  // No base: relative addresses are not resolved against the page.
  const url = URL.canParse(address) ? new URL(address) : null;
  return url && (url.protocol === "https:" || url.protocol === "http:") ? url.href : null;
}

/**
 * Block rule: show blocks that are nested too deeply as one paragraph. The parser's own limit would drop their text.
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
 * Inline rule: show a formula's source as written. CommonMark would take its backslashes and asterisks for marks.
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
 * Inline rule: keep the underscores and asterisks of names.
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
