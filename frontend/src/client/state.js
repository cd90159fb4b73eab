/** @import { AnswerEvent, EndEvent, ToolCallPiece } from "./events.js" */

/**
 * An answer's phase, as far as its follower knows.
 *
 * - `connecting`: the request has been sent
 * - `waiting`: the response has begun; no text yet
 * - `streaming`: text is arriving
 * - `reconnecting`: the connection is lost; `waitingFor` has the reason for the pause
 * - `done`, `stopped`, `failed`: over
 *
 * @typedef {"connecting" | "waiting" | "streaming" | "reconnecting" | "done" | "stopped" | "failed"} Phase
 */

/**
 * The reason for a follower's pause: the device is offline, it is backing off between two tries, or the service named a time.
 * `untilMs` is Unix time in milliseconds; null where the end of the pause is unknown.
 *
 * @typedef {{what: "network" | "retry" | "service", untilMs: number | null}} WaitingFor
 */

/**
 * @typedef {object} Failure
 * @property {string} code
 * @property {string} message
 * @property {boolean} retryable
 * @property {"answer" | "connection"} of whether the answer failed, or only following it
 * @property {number | null} retryAfterMs
 */

/**
 * A call of a tool, as far as it goes. `arguments` is JSON once the answer is done, unless the model made a mistake. A call
 * whose beginning lies before the event at which the answer was resumed has neither id nor name.
 *
 * @typedef {Readonly<{index: number, id: string, name: string, arguments: string}>} ToolCall
 */

/**
 * @typedef {object} AnswerState
 * @property {Phase} phase
 * @property {WaitingFor | null} waitingFor
 * @property {boolean} following false once the answer is over, given up or aborted
 * @property {string | null} id
 * @property {string | null} model
 * @property {number} seq the last event seen
 * @property {number} restartedAt the event at which the text was begun anew, or 0
 * @property {string} text text and refusal so far, in their order
 * @property {string} reasoning
 * @property {readonly ToolCall[]} toolCalls the calls of tools so far, in the order in which they began
 * @property {EndEvent | null} end the terminal event: how it ended, its usage and its timing
 * @property {Failure | null} failure why it failed, or why following it did
 */

/** @type {Readonly<AnswerState>} */
export const FIRST_STATE = Object.freeze({
  phase: "connecting",
  waitingFor: null,
  following: true,
  id: null,
  model: null,
  seq: 0,
  restartedAt: 0,
  text: "",
  reasoning: "",
  toolCalls: Object.freeze([]),
  end: null,
  failure: null,
});

/**
 * The state after an event. Pure; the event's seq is above the state's.
 *
 * @param {Readonly<AnswerState>} state
 * @param {AnswerEvent} event
 * @returns {Readonly<AnswerState>}
 */
export function after(state, event) {
  const next = { ...state, seq: event.seq };
  switch (event.type) {
    case "start":
      next.id = event.answer;
      next.model = event.model ?? null;
      break;
    case "delta":
      next.phase = "streaming";
      next.waitingFor = null;
      next.text += event.text ?? event.refusal ?? "";
      next.reasoning += event.reasoning ?? "";
      if (event.tool_call) {
        next.toolCalls = withPiece(state.toolCalls, event.tool_call);
      }
      break;
    case "restart":
      next.phase = "waiting";
      next.restartedAt = event.seq;
      next.text = "";
      next.reasoning = "";
      next.toolCalls = FIRST_STATE.toolCalls;
      break;
    case "done":
    case "stopped":
    case "failed":
      next.phase = event.type;
      next.waitingFor = null;
      next.following = false;
      next.end = event;
  }
  if (event.type === "failed") {
    const { code, message, retryable = true } = event;
    next.failure = { code, message, retryable, of: "answer", retryAfterMs: null };
  }
  return Object.freeze(next);
}

/**
 * @param {readonly ToolCall[]} calls
 * @param {ToolCallPiece} piece
 */
function withPiece(calls, { index, id = "", name = "", arguments: more }) {
  const call = calls.find((each) => each.index === index);
  if (!call) {
    return Object.freeze([...calls, Object.freeze({ index, id, name, arguments: more })]);
  }
  const grown = Object.freeze({ ...call, arguments: call.arguments + more });
  return Object.freeze(calls.map((each) => (each === call ? grown : each)));
}
