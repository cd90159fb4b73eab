import { FolyamError } from "./errors.js";
import { createQueues } from "./event-queue.js";
import { createHistory } from "./history.js";
import { FIRST_STATE, after } from "./state.js";

/** @import { AnswerEvent } from "./events.js" */
/** @import { AnswerState, Failure, Phase, WaitingFor } from "./state.js" */

/**
 * The receiver of an answer's events. The follower reads its position from the state.
 *
 * @typedef {object} Subject
 * @property {() => Readonly<AnswerState>} state
 * @property {() => readonly AnswerEvent[]} history the events so far, merged
 * @property {(event: AnswerEvent) => void} accept
 * @property {(phase: Phase, waitingFor?: WaitingFor | null) => void} enter
 * @property {(id: string) => void} identify
 * @property {() => void} alive
 */

/**
 * Keep one answer's state. Listeners are called with every new state; loops get every event.
 *
 * @param {Partial<AnswerState>} known the answer's id, and the seq of the last event seen, where it is resumed
 */
export function createSubject(known) {
  let state = Object.freeze({ ...FIRST_STATE, ...known });
  const listeners = createListeners();
  const history = createHistory();
  const queues = createQueues();
  const name = createPromise();
  if (state.id !== null) {
    name.resolve(state.id);
  }

  /** @param {Partial<AnswerState>} change */
  const become = (change) => {
    state = Object.freeze({ ...state, ...change });
    listeners.tell(state);
  };

  /** @type {Subject} */
  const subject = {
    state: () => state,
    history: () => history.events(state),
    accept(event) {
      history.push(event);
      state = after(state, event);
      queues.push(event); // before the listeners: a loop that one of them starts has the event from the history
      listeners.tell(state);
    },
    enter(phase, waitingFor = null) {
      if (phase !== state.phase || waitingFor !== state.waitingFor) {
        become({ phase, waitingFor });
      }
    },
    identify(id) {
      become({ id });
      name.resolve(id);
    },
    alive() {},
  };

  return {
    ...subject,
    subscribe: listeners.add,
    /** Resolves to the answer's id once it is known. */
    named: name.promise,
    /** An iterator over the events from the first on. */
    events: () => queues.open(history.events(state)),
    /**
     * Note that following has ended without a terminal event.
     *
     * @param {unknown} error thrown from the loops, after the last event
     * @param {{aborted: boolean}} how an abort is no failure
     */
    giveUp(error, { aborted }) {
      const over = { following: false, waitingFor: null };
      become(aborted ? over : { ...over, phase: "failed", failure: failureOf(error) });
      queues.close(error);
    },
    /** End the loops, after the last event. */
    close: () => queues.close(null),
  };
}

function createListeners() {
  /** @type {Set<(state: Readonly<AnswerState>) => void>} */
  const listeners = new Set();
  return {
    /**
     * @param {(state: Readonly<AnswerState>) => void} listener
     * @returns {() => void} removes it
     */
    add(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    /** @param {Readonly<AnswerState>} state */
    tell(state) {
      for (const listener of listeners) {
        try {
          listener(state);
        } catch (error) {
          queueMicrotask(() => {
            throw error; // reported by the platform; the answer goes on
          });
        }
      }
    },
  };
}

/** `Promise.withResolvers`, which Node 20 lacks. */
function createPromise() {
  /** @type {(value: string) => void} */
  let resolve = () => {};
  /** @type {Promise<string>} */
  const promise = new Promise((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

/**
 * @param {unknown} error
 * @returns {Failure}
 */
function failureOf(error) {
  const { code, message, retryable, retryAfterMs } =
    error instanceof FolyamError ? error : new FolyamError("protocol", String(error));
  return { code, message, retryable, of: "connection", retryAfterMs };
}
