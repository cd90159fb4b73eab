import { randomBytes } from "node:crypto";

/** @import { Behaviour } from "./behaviours.js" */
/** @import { LogEvent } from "./rendering.js" */

const DEFAULT_CHUNKS = 20;
export const DEFAULT_PACE_MS = 2;

const USAGE = { prompt_tokens: 5, completion_tokens: 20, total_tokens: 25 };
const TIMING = { first_chunk_seconds: 0.01, duration_seconds: 0.1 };

/** 128 random bits, as 32 lower-case hexadecimal digits. */
export const newAnswerId = () => randomBytes(16).toString("hex");

/**
 * One answer's log, which grows with time. Its events have places, counted from 1. Their seqs are the same unless the answer
 * is taken over.
 */
export class Log {
  id = newAnswerId();
  #beganMs = performance.now();
  /** @type {number | null} */
  #stoppedAt = null;
  #behaviour;
  #chunks;

  /** @param {Behaviour} behaviour */
  constructor(behaviour) {
    this.#behaviour = behaviour;
    this.#chunks = behaviour.chunks ?? DEFAULT_CHUNKS;
  }

  /** The place of the last event that there is by now. @returns {number} */
  get last() {
    if (this.#stoppedAt !== null) {
      return this.#stoppedAt;
    }
    const { paceMs = DEFAULT_PACE_MS, firstMs = 0, instead = {} } = this.#behaviour;
    const failed = Object.entries(instead).find(([, { type }]) => type === "failed");
    const whole = failed ? Number(failed[0]) : this.#chunks + 2;
    const ms = performance.now() - this.#beganMs - firstMs;
    return paceMs === 0 ? whole : Math.max(1, Math.min(whole, 1 + Math.floor(ms / paceMs)));
  }

  /** @param {number} place @returns {number} */
  seqOf(place) {
    const [at, seq] = this.#takeOvers.findLast(([first]) => first <= place) ?? [1, 1];
    return seq + (place - at); // in this order: below 2^53
  }

  /** The place of the last event that has this seq or a lower one. @param {number} seq @returns {number} */
  placeOf(seq) {
    const [at, first] = this.#takeOvers.findLast(([, number]) => number <= seq) ?? [1, 1];
    const next = this.#takeOvers.find(([place]) => place > at)?.[0] ?? Infinity;
    return Math.min(at + (seq - first), next - 1);
  }

  /** @returns {[place: number, seq: number][]} */
  get #takeOvers() {
    return Object.entries(this.#behaviour.takeOvers ?? {}).map(([place, seq]) => [Number(place), seq]);
  }

  /** @param {number} place @returns {LogEvent} */
  event(place) {
    const instead = this.#behaviour.instead?.[place];
    const seq = this.seqOf(place);
    if (place === this.#stoppedAt) {
      return { type: "stopped", seq, by: "user", usage: null, usage_complete: false, timing: TIMING };
    }
    if (place === 1) {
      return { type: "start", seq, answer: this.id, model: "misbehaving" };
    }
    if (instead) {
      const { type, ...fields } = instead;
      return { type, seq, ...fields };
    }
    if (place === this.#chunks + 2) {
      return { type: "done", seq, finish_reason: "stop", usage: USAGE, timing: TIMING };
    }
    return { type: "delta", seq, text: `ő${place - 1} ` };
  }

  /** @param {number} from @param {number} to @returns {LogEvent[]} */
  events(from, to) {
    return Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => this.event(from + index));
  }

  get isOver() {
    return isTerminal(this.event(this.last));
  }

  stop() {
    const { last } = this; // grows with time
    if (!isTerminal(this.event(last))) {
      this.#stoppedAt = last + 1;
    }
  }

  whole() {
    return wholeOf(this.id, this.events(1, this.last));
  }
}

/**
 * The object of `GET /answers/<id>?stream=false`.
 *
 * @param {string} id
 * @param {readonly LogEvent[]} events all of the answer's so far
 */
export function wholeOf(id, events) {
  const end = events.find(isTerminal);
  const since = events.slice(events.findLastIndex(({ type }) => type === "restart") + 1);
  const text = since
    .map((event) => (event.type === "delta" ? (event.text ?? event.refusal ?? "") : ""))
    .join("");
  const calls = callsIn(since);
  return {
    id,
    state: end?.type ?? "running",
    text,
    ...(calls.length > 0 && { tool_calls: calls }),
    last_seq: events.at(-1)?.seq ?? 0,
    usage: end?.usage ?? null,
    ...(end && "usage_complete" in end && { usage_complete: end.usage_complete }),
    timing: end?.timing ?? null,
  };
}

/** @param {readonly LogEvent[]} events */
function callsIn(events) {
  /** @type {any[]} */
  const calls = [];
  for (const { tool_call: piece } of /** @type {any[]} */ (events)) {
    if (piece) {
      const { [piece.index]: call = { ...piece, arguments: "" } } = calls;
      calls[piece.index] = { ...call, arguments: call.arguments + piece.arguments };
    }
  }
  return calls;
}

/** @param {LogEvent} event */
export function isTerminal({ type }) {
  return ["done", "stopped", "failed"].includes(type);
}
