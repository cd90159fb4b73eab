/**
 * The meaning of an answer's `finish_reason`. docs/protocol/finish-reasons.json has the same words; those for failure end an
 * answer as `failed`.
 *
 * @typedef {"finished" | "length" | "filtered" | "unknown"} Meaning
 */

/** @type {Record<Exclude<Meaning, "unknown">, readonly string[]>} */
export const FINISH_REASONS = {
  finished: [
    "stop",
    "stop_sequence",
    "stopped",
    "eos",
    "eos_token",
    "end_turn",
    "complete",
    "completed",
    "finished",
    "tool_calls",
    "tool_call",
    "tool_use",
    "function_call",
  ],
  length: [
    "length",
    "max_tokens",
    "max_output_tokens",
    "max_length",
    "model_length",
    "token_limit",
    "time_limit",
    "context_length",
    "context_length_exceeded",
    "context_window_exceeded",
    "model_context_window_exceeded",
  ],
  filtered: [
    "content_filter",
    "content_filtered",
    "guardrail_intervened",
    "refusal",
    "safety",
    "sensitive",
    "recitation",
    "blocklist",
    "prohibited_content",
    "spii",
  ],
};

/** @type {Map<string, Meaning>} */
const MEANINGS = new Map(
  Object.entries(FINISH_REASONS).flatMap(([meaning, words]) =>
    words.map((word) => [word, /** @type {Meaning} */ (meaning)]),
  ),
);

/**
 * Return the meaning of a reason, in either case. An answer without one has finished.
 *
 * @param {string} reason
 * @returns {Meaning}
 */
export function meaningOf(reason) {
  return reason === "" ? "finished" : (MEANINGS.get(reason.toLowerCase()) ?? "unknown");
}
