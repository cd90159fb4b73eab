/**
 * The events of an answer's log, as sent by the service (docs/protocol.md).
 *
 * @typedef {{seq: number, type: "start", answer: string, model: string}} StartEvent
 * @typedef {{how: string, why: string}} Seam where one upstream's text ends and the next one's begins
 * @typedef {{index: number, id?: string, name?: string, arguments: string}} ToolCallPiece `id` and `name` are in a call's first piece alone
 * @typedef {{seq: number, type: "delta", text?: string, reasoning?: string, refusal?: string, tool_call?: ToolCallPiece, seam?: Seam}} DeltaEvent exactly one of the five
 * @typedef {{seq: number, type: "restart", again?: boolean}} RestartEvent `again`: the same answer is told again
 * @typedef {{prompt_tokens?: number, completion_tokens?: number, total_tokens?: number}} Usage
 * @typedef {{first_chunk_seconds?: number | null, duration_seconds?: number | null}} Timing
 * @typedef {{usage?: Usage | null, usage_complete?: boolean, timing?: Timing | null}} Figures `usage_complete` is false if `usage` lacks tokens
 * @typedef {{seq: number, type: "done", finish_reason: string | null} & Figures} DoneEvent
 * @typedef {{seq: number, type: "stopped", by: string} & Figures} StoppedEvent
 * @typedef {{seq: number, type: "failed", code: string, message: string, retryable: boolean} & Figures} FailedEvent
 * @typedef {DoneEvent | StoppedEvent | FailedEvent} EndEvent
 * @typedef {StartEvent | DeltaEvent | RestartEvent | EndEvent} AnswerEvent
 */

const TERMINAL = new Set(["done", "stopped", "failed"]);

/**
 * @template {{type: string}} Event
 * @param {Event} event
 * @returns {event is Extract<Event, EndEvent>}
 */
export function isTerminal(event) {
  return TERMINAL.has(event.type);
}

/**
 * Parse one message's data. Returns null where it is not an event of a log: cut, garbled, or sent by something other than
 * the service, such as a hotel network's login page.
 *
 * @param {string} data
 * @returns {AnswerEvent | null}
 */
export function parseEvent(data) {
  let event;
  try {
    event = JSON.parse(data);
  } catch {
    return null;
  }
  if (typeof event !== "object" || event === null || !Number.isInteger(event.seq) || event.seq < 1) {
    return null;
  }
  switch (event.type) {
    case "start":
      return isText(event.answer) ? event : null;
    case "delta":
      return [event.text, event.reasoning, event.refusal].every((part) => isText(part ?? "")) &&
        isToolCallPiece(event.tool_call ?? null)
        ? event
        : null;
    case "failed":
      return isText(event.code) && isText(event.message) ? event : null;
    default:
      return isText(event.type) ? event : null;
  }
}

/** @param {any} value */
function isToolCallPiece(value) {
  return (
    value === null ||
    (Number.isInteger(value.index) &&
      value.index >= 0 &&
      [value.arguments, value.id ?? "", value.name ?? ""].every(isText))
  );
}

/** @param {unknown} value */
function isText(value) {
  return typeof value === "string";
}
