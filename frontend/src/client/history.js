import { deltaOf, pieceOf, restOf, voiceOf } from "./merging.js";

/** @import { AnswerEvent } from "./events.js" */
/** @import { Voice } from "./merging.js" */
/** @import { AnswerState } from "./state.js" */

/**
 * Keep the events of an answer so far, with neighbouring deltas of one voice merged. A restart replaces all deltas before
 * it. Only the lengths of deltas are kept here: their text is in the answer's state.
 */
export function createHistory() {
  /** @typedef {{seq: number, voice: Voice, length: number}} Part */
  /** @type {(AnswerEvent | Part)[]} */
  let entries = [];
  return {
    /** @param {AnswerEvent} event */
    push(event) {
      if (event.type === "restart") {
        entries = entries.filter(
          (entry) => "type" in entry && entry.type !== "delta" && entry.type !== "restart",
        );
      }
      const voice = voiceOf(event);
      const last = entries.at(-1);
      if (!voice) {
        entries.push(event);
      } else if (last && "voice" in last && last.voice === voice) {
        last.seq = event.seq;
        last.length += pieceOf(event, voice).length;
      } else {
        entries.push({ seq: event.seq, voice, length: pieceOf(event, voice).length });
      }
    },
    /**
     * @param {Pick<AnswerState, "text" | "reasoning">} state after the last event
     * @returns {AnswerEvent[]}
     */
    events({ text, reasoning }) {
      let textAt = 0;
      let reasoningAt = 0;
      return entries.map((entry) => {
        if ("type" in entry) {
          return entry;
        }
        const { seq, voice, length } = entry;
        return voice === "reasoning"
          ? deltaOf(seq, voice, reasoning.slice(reasoningAt, (reasoningAt += length)))
          : deltaOf(seq, voice, text.slice(textAt, (textAt += length)));
      });
    },
  };
}

/**
 * Return the events that lead from an earlier history of an answer to a later one.
 *
 * @param {readonly AnswerEvent[]} known the earlier one: its events are in `all`, the last one perhaps as the beginning of
 *   a longer delta
 * @param {number} seq the last event that is known
 * @param {readonly AnswerEvent[]} all the later one
 * @returns {AnswerEvent[]}
 */
export function missingEvents(known, seq, all) {
  const index = all.findIndex((event) => event.seq > seq);
  const first = all[index];
  if (!first) {
    return [];
  }
  const begun = known[index];
  const rest = begun ? restOf(begun, first) : first;
  return [...(rest ? [rest] : []), ...all.slice(index + 1)];
}
