import { formatNumber, say } from "./words.js";

/** @import { AnswerState } from "../client/state.js" */

/**
 * Return an ended answer's figures in the reader's language.
 *
 * @param {Pick<AnswerState, "end">} state
 * @returns {string[]}
 */
export function figuresOf({ end }) {
  const first = end?.timing?.first_chunk_seconds ?? null;
  const whole = end?.timing?.duration_seconds ?? null;
  const tokens = end?.usage?.completion_tokens ?? null;
  const figures = [];
  if (first !== null) {
    figures.push(say("firstChunk", { seconds: formatNumber(first, first < 10 ? 2 : 1) }));
  }
  if (whole !== null) {
    figures.push(say("duration", { seconds: formatNumber(whole, 1) }));
  }
  if (tokens !== null) {
    const all = end?.usage_complete !== false;
    figures.push(say(all ? "tokens" : "tokensAtLeast", { count: formatNumber(tokens) }));
    const writing = whole === null || !all ? 0 : whole - (first ?? 0);
    if (writing > 0) {
      figures.push(say("tokensPerSecond", { count: formatNumber(tokens / writing) }));
    }
  }
  return figures;
}
