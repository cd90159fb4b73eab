/** @import { StateInline, Token } from "markdown-it" */
/** @import { Parser } from "../commonmark.js" */

const TILDE = "~".charCodeAt(0);
/** Delimiters pair with those of the same mark: one tilde is another mark than two. */
const ONE = TILDE;
const TWO = TILDE + 0x10000;

/**
 * GFM's strikethrough, of one tilde or two. markdown-it's own knows two.
 *
 * One tilde does not begin or end inside a word, as an underscore: `5~10 and 20~30` are ranges.
 *
 * @param {Parser} parser
 */
export function addStrikethrough({ inline }) {
  inline.ruler.at("strikethrough", tokenize);
  inline.ruler2.at("strikethrough", (state) => {
    pair(state.tokens, state.delimiters);
    for (const meta of state.tokens_meta) {
      pair(state.tokens, meta?.delimiters ?? []);
    }
  });
}

/** @param {StateInline} state @param {boolean} silent */
function tokenize(state, silent) {
  if (silent || state.src.charCodeAt(state.pos) !== TILDE) {
    return false;
  }
  const { length, can_open, can_close } = state.scanDelims(state.pos, false);
  const { can_open: opens, can_close: closes } = state.scanDelims(state.pos, true);
  state.push("text", "", 0).content = "~".repeat(length);
  state.pos += length;
  if (length <= 2) {
    const [marker, open, close] = length === 1 ? [ONE, can_open, can_close] : [TWO, opens, closes];
    state.delimiters.push({ marker, length: 0, token: state.tokens.length - 1, end: -1, open, close });
  }
  return true;
}

/** @param {Token[]} tokens @param {StateInline["delimiters"]} delimiters */
function pair(tokens, delimiters) {
  for (const { marker, token, end } of delimiters) {
    const closing = delimiters[end];
    if ((marker === ONE || marker === TWO) && closing) {
      Object.assign(/** @type {Token} */ (tokens[token]), {
        type: "s_open",
        tag: "s",
        nesting: 1,
        content: "",
      });
      Object.assign(/** @type {Token} */ (tokens[closing.token]), {
        type: "s_close",
        tag: "s",
        nesting: -1,
        content: "",
      });
    }
  }
}
