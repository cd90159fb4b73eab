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

/** @param {unknown} text */
const isFull = (text) => [...String(text)].length >= MERGED_CHARACTERS;

/** @param {LogEvent} last @param {LogEvent} event @param {string} voice */
function joinedText(last, event, voice) {
  return voice in last && !isFull(last[voice])
    ? { ...event, [voice]: `${last[voice]}${event[voice]}` }
    : null;
}

/** @param {LogEvent} last @param {LogEvent} event */
function joinedCall(last, event) {
  const [before, call] = /** @type {any[]} */ ([last.tool_call, event.tool_call]);
  const goesOn = before && call && before.index === call.index && !("id" in call) && !("name" in call);
  return goesOn && !isFull(before.arguments)
    ? { ...event, tool_call: { ...before, arguments: before.arguments + call.arguments } }
    : null;
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
    const joined = last && (voice ? joinedText(last, event, voice) : joinedCall(last, event));
    if (joined) {
      merged[merged.length - 1] = joined;
    } else {
      merged.push(event);
    }
  }
  return merged;
}
