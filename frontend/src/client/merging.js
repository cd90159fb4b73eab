/** @import { AnswerEvent, DeltaEvent } from "./events.js" */

/** A delta has exactly one voice. A delta in a voice of a later version is passed on unmerged. */
const VOICES = /** @type {const} */ (["text", "reasoning", "refusal"]);

/**
 * Append an event. A delta that follows one of the same voice is merged into it, under its own `seq`.
 *
 * @param {AnswerEvent[]} events
 * @param {AnswerEvent} event
 */
export function appendMerged(events, event) {
  const last = events.at(-1);
  const voice = voiceOf(event);
  if (last && voice && voice === voiceOf(last)) {
    events[events.length - 1] = deltaOf(event.seq, voice, pieceOf(last, voice) + pieceOf(event, voice));
  } else {
    events.push(event);
  }
}

/**
 * Return the part of a merged delta that an earlier state of it lacks.
 *
 * @param {AnswerEvent} known
 * @param {AnswerEvent} merged
 * @returns {AnswerEvent | null} null where there is none; `merged` itself where the two are not one delta
 */
export function restOf(known, merged) {
  const voice = voiceOf(merged);
  if (!voice || voice !== voiceOf(known)) {
    return merged;
  }
  const rest = pieceOf(merged, voice).slice(pieceOf(known, voice).length);
  return rest === "" ? null : deltaOf(merged.seq, voice, rest);
}

/** @typedef {(typeof VOICES)[number]} Voice */

/** @param {AnswerEvent} event @returns {Voice | undefined} */
export function voiceOf(event) {
  return event.type === "delta" ? VOICES.find((voice) => typeof event[voice] === "string") : undefined;
}

/** @param {AnswerEvent} delta @param {Voice} voice */
export const pieceOf = (delta, voice) => /** @type {DeltaEvent} */ (delta)[voice] ?? "";

/** @param {number} seq @param {Voice} voice @param {string} piece @returns {DeltaEvent} */
export const deltaOf = (seq, voice, piece) => ({ seq, type: "delta", [voice]: piece });
