import { continues, deltaOf, kindOf, pieceOf, restOf } from "./merging.js";

/** @import { AnswerEvent } from "./events.js" */
/** @import { Kind } from "./merging.js" */
/** @import { AnswerState } from "./state.js" */

/**
 * Keep the events of an answer so far, with neighbouring deltas of one kind merged. A restart replaces all deltas before
 * it. Only the lengths of deltas are kept here: their text is in the answer's state.
 */
export function createHistory() {
  /** @typedef {{seq: number, kind: Kind, length: number}} Part */
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
      const kind = kindOf(event);
      const last = entries.at(-1);
      if (!kind) {
        entries.push(event);
      } else if (last && "kind" in last && continues(last.kind, kind)) {
        last.seq = event.seq;
        last.length += pieceOf(event).length;
      } else {
        entries.push({ seq: event.seq, kind, length: pieceOf(event).length });
      }
    },
    /**
     * @param {Pick<AnswerState, "text" | "reasoning" | "toolCalls">} state after the last event
     * @returns {AnswerEvent[]}
     */
    events({ text, reasoning, toolCalls }) {
      /** @type {Map<string | number, number>} */
      const places = new Map();
      return entries.map((entry) => {
        if ("type" in entry) {
          return entry;
        }
        const { seq, kind, length } = entry;
        const index = kind.call?.index;
        const from = index ?? (kind.voice === "reasoning" ? "reasoning" : "text");
        const words =
          index !== undefined
            ? (toolCalls.find((call) => call.index === index)?.arguments ?? "")
            : from === "reasoning"
              ? reasoning
              : text;
        const place = places.get(from) ?? 0;
        places.set(from, place + length);
        return deltaOf(seq, kind, words.slice(place, place + length));
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
