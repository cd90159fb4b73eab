/** @import { StateBlock } from "markdown-it" */

/** Levels of nested quotes and lists; a list counts two, itself and its item. */
const DEEPEST = 20;

/**
 * Block rule: show blocks that are nested too deeply as one paragraph. The parser's own limit would drop their text.
 *
 * @param {StateBlock} state
 * @param {number} startLine
 * @param {number} endLine
 */
export function tooDeep(state, startLine, endLine) {
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
