/**
 * The protocol's test vectors, docs/protocol/*.json. docs/protocol.md says what each file holds.
 *
 * @typedef {{type: string, seq: number, [field: string]: unknown}} VectorEvent
 * @typedef {{id: string, state: string, text: string, tool_calls?: object[], last_seq: number, usage: object | null, usage_complete?: boolean, timing: object | null}} Reading
 * @typedef {{name: string, answer: string, events: VectorEvent[], bodies: Record<string, string[]>, reading: Reading, reasoning: string}} AnswerVector
 * @typedef {{name: string, events: VectorEvent[], merged: VectorEvent[]}} MergingVector
 * @typedef {{name: string, events: VectorEvent[], passed_on: VectorEvent[], reading: Reading}} LaterVector
 * @typedef {{name: string, log: string, method: string, target: string, headers: Record<string, string>, status: number, first_seq?: number, code?: string}} Resumption
 * @typedef {{code: string, status: number | null, sentences: string[], retryable: boolean, retry_after: number | null, sources: string[]}} ErrorRow
 */
import answers from "../../docs/protocol/answers.json";
import errors from "../../docs/protocol/errors.json";
import eventIds from "../../docs/protocol/event-ids.json";
import finishReasons from "../../docs/protocol/finish-reasons.json";
import laterVersions from "../../docs/protocol/later-versions.json";
import merging from "../../docs/protocol/merging.json";
import resuming from "../../docs/protocol/resuming.json";

/** The fields with a text, which a vector may write in a shorter form. */
const TEXTS = new Set(["text", "reasoning", "refusal", "arguments"]);

export const ANSWERS = /** @type {AnswerVector[]} */ (/** @type {unknown} */ (answers));
export const ERRORS = /** @type {ErrorRow[]} */ (errors);
export const EVENT_IDS = eventIds;
export const FINISH_REASONS_VECTOR = finishReasons;
export const LATER_VERSIONS = /** @type {LaterVector[]} */ (/** @type {unknown} */ (laterVersions));
export const MERGING = /** @type {MergingVector[]} */ (
  merging.map(({ name, events, merged }) => ({
    name,
    events: events.map(writeOut),
    merged: merged.map(writeOut),
  }))
);
export const RESUMING =
  /** @type {{answer: string, logs: Record<string, VectorEvent[]>, cases: Resumption[]}} */ (
    /** @type {unknown} */ (resuming)
  );

/** The rows whose codes a response of the service or of nginx may have. */
export const RESPONSE_ERRORS = ERRORS.filter(({ sources }) => sources.some((source) => source !== "answer"));

/**
 * An event with its long text written out.
 *
 * @template {object} E
 * @param {E} event
 * @returns {any}
 */
function writeOut(event) {
  const whole = (/** @type {string} */ field, /** @type {any} */ value) =>
    TEXTS.has(field) ? textOf(value) : field === "tool_call" ? writeOut(value) : value;
  return Object.fromEntries(Object.entries(event).map(([field, value]) => [field, whole(field, value)]));
}

/**
 * A text, which long vectors put as `{"repeat": "x", "times": 9}` or as a list of parts.
 *
 * @param {any} text
 * @returns {string}
 */
function textOf(text) {
  if (typeof text === "string") {
    return text;
  }
  return Array.isArray(text) ? text.map(textOf).join("") : text.repeat.repeat(text.times);
}
