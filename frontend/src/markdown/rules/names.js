/** @import { StateInline } from "markdown-it" */

/**
 * Names that CommonMark takes for emphasis: `__init__`, `__FILE__`, and the globs of an extension, in a directory or in
 * all below it. The lengths are bounded because the search restarts at each underscore.
 */
const NAMES =
  /(?<!\w)__(?:[a-z][a-z0-9_]{0,60}|[A-Z][A-Z0-9_]{0,60})__(?!\w)|(?<![\w*])(?:\*\*\/){0,9}\*\.[a-z0-9]{1,9}(?![\w*])/y;

/**
 * Inline rule: keep the underscores and asterisks of names.
 *
 * @param {StateInline} state
 * @param {boolean} silent
 */
export function name(state, silent) {
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
