/** @import { StateBlock, StateInline } from "markdown-it" */
/** @import { References } from "../references.js" */

const LABEL = /\[\^([^\s[\]^]{1,100})\]/y;

/** @param {string} source @param {number} at */
function labelAt(source, at) {
  LABEL.lastIndex = at;
  return LABEL.exec(source)?.[1] ?? null;
}

/**
 * Block rule: a footnote, `[^1]: text`, with further blocks that are indented by four columns.
 *
 * @param {StateBlock} state
 * @param {number} line
 * @param {number} endLine
 * @param {boolean} silent
 */
export function footnote(state, line, endLine, silent) {
  const start = Number(state.bMarks[line]) + Number(state.tShift[line]);
  const label = Number(state.sCount[line]) - state.blkIndent < 4 ? labelAt(state.src, start) : null;
  const colon = start + (label ?? "").length + 3;
  if (label === null || state.src.charAt(colon) !== ":" || colon >= Number(state.eMarks[line])) {
    return false;
  }
  if (silent) {
    return true;
  }
  const open = state.push("footnote_open", "div", 1);
  open.meta = { label };
  state.line = line;
  inside(state, line, colon + 1, () => {
    if (state.isEmpty(line)) {
      state.line = line + 1;
    } else {
      state.md.block.tokenize(state, line, endLine);
    }
  });
  open.map = [line, state.line];
  state.push("footnote_close", "div", -1);
  return true;
}

/**
 * Parse what is in a footnote. Its first line begins behind the label, and is as far in as the others have to be.
 *
 * @param {StateBlock} state
 * @param {number} line
 * @param {number} start of the first line
 * @param {() => void} parse
 */
function inside(state, line, start, parse) {
  const { parentType, bMarks, tShift, sCount } = state;
  const before = [bMarks[line], tShift[line], sCount[line]].map(Number);
  const end = Number(state.eMarks[line]);
  const blanks = /^[ \t]*/.exec(state.src.slice(start, end))?.[0].length ?? 0;
  bMarks[line] = start + blanks;
  tShift[line] = 0;
  state.blkIndent += 4;
  sCount[line] = state.blkIndent;
  state.parentType = "footnote";
  parse();
  state.blkIndent -= 4;
  state.parentType = parentType;
  [bMarks[line], tShift[line], sCount[line]] = /** @type {[number, number, number]} */ (before);
}

/**
 * Inline rule: a reference to a footnote, `[^1]`.
 *
 * @param {StateInline} state
 * @param {boolean} silent
 */
export function footnoteReference(state, silent) {
  const label = labelAt(state.src, state.pos);
  if (label === null || state.pos + label.length + 3 > state.posMax) {
    return false;
  }
  const { hasFootnote } = /** @type {References["environment"]} */ (/** @type {unknown} */ (state.env));
  if (!hasFootnote(label)) {
    return false;
  }
  if (!silent) {
    state.push("footnote_reference", "", 0).meta = { label };
  }
  state.pos += label.length + 3;
  return true;
}
