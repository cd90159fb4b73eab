/** @import { AnswerEvent, DeltaEvent, ToolCallPiece } from "./events.js" */

/** A delta has exactly one voice. A delta in a voice of a later version is passed on unmerged. */
const VOICES = /** @type {const} */ (["text", "reasoning", "refusal", "tool_call"]);

/** @typedef {(typeof VOICES)[number]} Voice */

/**
 * What a delta is a part of: a voice, or one call of a tool. A part with an `id` begins its call.
 *
 * @typedef {{voice: Voice, call: Omit<ToolCallPiece, "arguments"> | null}} Kind
 */

/**
 * Append an event. A delta that follows one of the same kind is merged into it, under its own `seq`.
 *
 * @param {AnswerEvent[]} events
 * @param {AnswerEvent} event
 */
export function appendMerged(events, event) {
  const last = events.at(-1);
  const kind = kindOf(event);
  const before = last && kindOf(last);
  if (last && kind && before && continues(before, kind)) {
    events[events.length - 1] = deltaOf(event.seq, before, pieceOf(last) + pieceOf(event));
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
  const kind = kindOf(merged);
  const before = kindOf(known);
  if (
    !kind ||
    kind.voice !== before?.voice ||
    kind.call?.index !== before.call?.index ||
    kind.call?.id !== before.call?.id
  ) {
    return merged;
  }
  const rest = pieceOf(merged).slice(pieceOf(known).length);
  const call = kind.call && { index: kind.call.index };
  return rest === "" ? null : deltaOf(merged.seq, { ...kind, call }, rest);
}

/** @param {AnswerEvent} event @returns {Kind | null} null for any other event, and for a delta in a voice of a later version */
export function kindOf(event) {
  if (event.type !== "delta") {
    return null;
  }
  if (event.tool_call) {
    const { index, id, name } = event.tool_call;
    const head = { ...(id !== undefined && { id }), ...(name !== undefined && { name }) };
    return { voice: "tool_call", call: { index, ...head } };
  }
  const voice = VOICES.find((each) => typeof event[each] === "string");
  return voice ? { voice, call: null } : null;
}

/** Return whether a part goes on where another one ends. @param {Kind} before @param {Kind} kind */
export function continues(before, kind) {
  const begins = kind.call?.id !== undefined || kind.call?.name !== undefined;
  return kind.voice === before.voice && kind.call?.index === before.call?.index && !begins;
}

/** Return a delta's words. @param {AnswerEvent} event */
export function pieceOf(event) {
  const delta = /** @type {DeltaEvent} */ (event);
  return delta.text ?? delta.reasoning ?? delta.refusal ?? delta.tool_call?.arguments ?? "";
}

/** @param {number} seq @param {Kind} kind @param {string} piece @returns {DeltaEvent} */
export function deltaOf(seq, { voice, call }, piece) {
  return { seq, type: "delta", [voice]: call ? { ...call, arguments: piece } : piece };
}
