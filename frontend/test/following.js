import { DEFAULT_PACE_MS, isTerminal, newAnswerId } from "./log.js";
import { HEARTBEAT, merge, preamble, render } from "./rendering.js";

/** @import { ServerResponse } from "node:http" */
/** @import { Behaviour, Course } from "./behaviours.js" */
/** @import { Log } from "./log.js" */

/** The service sends 1000. This is shorter because tests wait for it after each cut. */
export const RETRY_MS = 20;
const HEARTBEAT_MS = 15_000;
/** Time for written bytes to leave before the socket is destroyed. */
const BEFORE_A_CUT_MS = 5;

/**
 * Send a log's events after a place, with the misbehaviour of the connection's course.
 *
 * @param {Log} log
 * @param {number} after
 * @param {ServerResponse} response whose headers are sent
 * @param {Behaviour} behaviour
 * @param {Course} course
 */
export function sendEvents(log, after, response, behaviour, course) {
  const write = writerTo(response, course);
  const events = eventsBehind(log, course.fromTheStart ? 0 : after, course);
  const id = course.anotherAnswer ? newAnswerId() : log.id;
  let sent = 0;
  let lastWriteMs = performance.now();
  write(course.preamble ?? preamble(RETRY_MS));
  const step = () => {
    for (const event of events()) {
      if (breakOff(response, course, sent)) {
        return;
      }
      sent += 1;
      lastWriteMs = performance.now();
      write(render(id, event.type === "start" ? { ...event, answer: id } : event));
      if (isTerminal(event)) {
        response.end();
        return;
      }
    }
    if (performance.now() - lastWriteMs >= (behaviour.heartbeatMs ?? HEARTBEAT_MS)) {
      lastWriteMs = performance.now();
      write(HEARTBEAT);
    }
    timer = setTimeout(step, Math.min(behaviour.paceMs ?? DEFAULT_PACE_MS, 20));
  };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  response.on("close", () => clearTimeout(timer));
  step();
}

/**
 * Return a function that returns the events since its last call.
 *
 * @param {Log} log
 * @param {number} after
 * @param {Course} course
 */
function eventsBehind(log, after, course) {
  let place = after;
  return () => {
    const { last } = log; // grows with time
    const events = log.events(place + 1, last);
    place = Math.max(place, last);
    return course.merge ? merge(events) : events;
  };
}

/** @param {ServerResponse} response @param {Course} course @returns {(text: string) => void} */
function writerTo(response, { byteByByte = false }) {
  return (text) => {
    const pieces = byteByByte ? Array.from(Buffer.from(text), (byte) => Buffer.of(byte)) : [text];
    for (const piece of pieces) {
      response.write(piece);
    }
  };
}

/**
 * @param {ServerResponse} response
 * @param {Course} course
 * @param {number} sent
 * @returns {boolean} whether the connection sends nothing more
 */
function breakOff(response, { cutAfter, endAfter, stallAfter, garbageAfter }, sent) {
  switch (sent) {
    case cutAfter:
      setTimeout(() => response.socket?.destroy(), BEFORE_A_CUT_MS);
      return true;
    case endAfter:
      response.end();
      return true;
    case stallAfter:
      return true;
    case garbageAfter:
      response.write('data: {"seq": 3, "ty\nid: x\n\n');
      return true;
    default:
      return false;
  }
}
