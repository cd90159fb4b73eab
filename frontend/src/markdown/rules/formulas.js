/** @import { StateBlock, StateInline } from "markdown-it" */
/** @import { BlockEnvironment } from "../commonmark.js" */

/** Limit on the search for a formula's end. Without it, a text of openings would take quadratic time. */
const LONGEST = 2000;
/** A formula in single dollars is in one line, and short. */
const LONGEST_SINGLE = 300;
const DELIMITERS = /** @type {const} */ ([
  ["\\(", "\\)", false],
  ["\\[", "\\]", true],
  ["$$", "$$", true],
]);

/** @typedef {{source: string, tex: string, display: boolean}} Formula */

/**
 * Inline rule: a formula. CommonMark would take its backslashes and asterisks for marks.
 *
 * @param {StateInline} state
 * @param {boolean} silent
 */
export function formula(state, silent) {
  const found = delimited(state) ?? inDollars(state);
  if (!found) {
    return false;
  }
  if (!silent) {
    state.push("formula", "", 0).meta = found;
  }
  state.pos += found.source.length;
  return true;
}

/** @param {StateInline} state @returns {Formula | null} */
function delimited(state) {
  const delimiters = DELIMITERS.find(([open]) => state.src.startsWith(open, state.pos));
  if (!delimiters) {
    return null;
  }
  const [open, close, display] = delimiters;
  const text = state.src.slice(state.pos, Math.min(state.pos + LONGEST, state.posMax));
  const end = text.indexOf(close, open.length);
  const tex = text.slice(open.length, end);
  return end < 0 || tex.trim() === ""
    ? null
    : { source: text.slice(0, end + close.length), tex: tex.trim(), display };
}

/**
 * A formula in single dollars, unless it may be money or a variable of a shell: nothing is a formula that has a blank within
 * its dollars, a letter or a digit around them, or neither a mark of mathematics nor only short words.
 *
 * @param {StateInline} state
 * @returns {Formula | null}
 */
function inDollars(state) {
  const { src, pos } = state;
  if (src.charAt(pos) !== "$" || /[\w$\\]/.test(src.charAt(pos - 1))) {
    return null;
  }
  const line = src.slice(pos + 1, Math.min(pos + LONGEST_SINGLE, state.posMax));
  const [, tex = "", behind = ""] = /^((?:[^$\n\\`]|\\[^\n])+)\$(.?)/.exec(line) ?? [];
  if (tex === "" || /^\s|\s$/.test(tex) || /[\w${]/.test(behind)) {
    return null;
  }
  const isMarked = /[\\^_=<>{}]/.test(tex);
  const isShort = !/[A-Za-z]{3}/.test(tex) && !/[^\x20-\x7e]/.test(tex);
  const isSum = /^\d/.test(tex) && !isMarked && !/^\d+[a-z]?$/.test(tex);
  return (isMarked || isShort) && !isSum ? { source: `$${tex}$`, tex, display: false } : null;
}

/**
 * Block rule: a formula that begins and ends a line, and has no blank line. At the end of a text that is still growing, one
 * that has not ended yet.
 *
 * @param {StateBlock} state
 * @param {number} startLine
 * @param {number} endLine
 * @param {boolean} silent
 */
export function formulaBlock(state, startLine, endLine, silent) {
  const start = startOf(state, startLine);
  const [open, close] =
    DELIMITERS.find(([mark, , display]) => display && state.src.startsWith(mark, start)) ?? [];
  if (
    !open ||
    !close ||
    state.src.startsWith("$$$", start) ||
    Number(state.sCount[startLine]) - state.blkIndent >= 4
  ) {
    return false;
  }
  const found = linesOf(state, startLine, endLine, [open, close]);
  if (!found) {
    return false;
  }
  if (!silent) {
    state.line = found.line;
    const token = state.push("formula_block", "", 0);
    token.map = [startLine, found.line];
    token.meta = { source: found.source, tex: found.tex, display: true, isOpen: found.isOpen };
  }
  return true;
}

/**
 * The end is looked for in the text first: reading a formula's lines for each line of openings would take quadratic time.
 *
 * @param {StateBlock} state
 * @param {number} startLine
 * @param {number} endLine
 * @param {[open: string, close: string]} marks
 */
function linesOf(state, startLine, endLine, [open, close]) {
  const { src } = state;
  const start = startOf(state, startLine);
  const found = src.slice(start, start + LONGEST).indexOf(close, open.length);
  const end = found < 0 ? Infinity : start + found;
  const behind = found < 0 ? "" : restOfLine(src, end + close.length);
  if (found < 0 ? src.length - start >= LONGEST : !/^[.,;:]?$/.test(behind)) {
    return null;
  }
  for (let line = startLine; line < endLine; line += 1) {
    if (state.isEmpty(line) || (line > startLine && Number(state.sCount[line]) < state.blkIndent)) {
      return null;
    }
    if (end < Number(state.eMarks[line])) {
      const source = sourceOf(state, startLine, line + 1);
      const tex = source.slice(open.length, source.indexOf(close, open.length)).trim();
      // A sentence's mark behind it is shown in it.
      return tex === "" ? null : { line: line + 1, source, tex: tex + behind, isOpen: false };
    }
  }
  const { isWhole } = /** @type {BlockEnvironment} */ (/** @type {unknown} */ (state.env));
  const isOpen = !isWhole && found < 0 && endLine === state.lineMax && reachesTheEnd(state);
  return isOpen ? { line: endLine, source: sourceOf(state, startLine, endLine), tex: "", isOpen } : null;
}

/** @param {StateBlock} state @param {number} line */
const startOf = (state, line) => Number(state.bMarks[line]) + Number(state.tShift[line]);

/** @param {string} source @param {number} at */
const restOfLine = (source, at) => (/^.*/.exec(source.slice(at, at + LONGEST))?.[0] ?? "").trim();

/** @param {StateBlock} state @param {number} from @param {number} to the line behind the last one */
function sourceOf(state, from, to) {
  let source = "";
  for (let line = from; line < to; line += 1) {
    source += `${state.src.slice(startOf(state, line), state.eMarks[line]).trim()}\n`;
  }
  return source.trimEnd();
}

/** A list or a quote that has ended is followed by more text. @param {StateBlock} state */
const reachesTheEnd = (state) => Number(state.eMarks[state.lineMax - 1]) >= state.src.trimEnd().length;
