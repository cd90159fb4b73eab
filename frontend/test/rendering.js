/**
 * The Server-Sent Events of docs/protocol.md, as pure functions over events.
 *
 * @typedef {{type: string, seq: number, [field: string]: unknown}} LogEvent
 */

/** Sent when nothing else was for a while. */
export const HEARTBEAT = ":\n";

/** Length, in code points, from which a merged delta takes up no further one. */
const MERGED_CHARACTERS = 16_384;

const VOICES = ["text", "reasoning", "refusal"];

/** The line before the first event. @param {number} retryMs */
export const preamble = (retryMs) => `retry: ${retryMs}\n`;

/**
 * One event's text.
 *
 * @param {string} answer the answer's id
 * @param {LogEvent} event
 */
export function render(answer, event) {
  return `event: ${event.type}\ndata: ${JSON.stringify(event)}\nid: ${answer}:${event.seq}\n\n`;
}

/**
 * Merge neighbouring deltas of one voice, under the last one's `seq`.
 *
 * @param {LogEvent[]} events
 */
export function merge(events) {
  /** @type {LogEvent[]} */
  const merged = [];
  for (const event of events) {
    const last = merged.at(-1);
    const voice = VOICES.find((each) => each in event);
    if (last && voice && voice in last && [...String(last[voice])].length < MERGED_CHARACTERS) {
      merged[merged.length - 1] = { ...event, [voice]: `${last[voice]}${event[voice]}` };
    } else {
      merged.push(event);
    }
  }
  return merged;
}
