import { pauseMs } from "./backoff.js";
import { responseError } from "./response.js";
import { FolyamError } from "./errors.js";
import { Follower } from "./follower.js";
import { tabsCanAgree } from "./locks.js";
import { followTogether, leadOnceNamed } from "./relay.js";
import { createSharedConnections, UNLIMITED } from "./shared-connections.js";
import { FIRST_STATE, after, eventsBetween } from "./state.js";

/** @import { AnswerEvent } from "./events.js" */
/** @import { AnswerState } from "./state.js" */
/** @import { Patience, Subject } from "./follower.js" */

/**
 * @typedef {object} Question
 * @property {string} query
 * @property {{role: "user" | "assistant", content: string}[]} [history] earlier turns, oldest first
 * @property {string} [model]
 * @property {number} [temperature]
 * @property {number} [max_tokens]
 */

/** @typedef {{answer: string, after?: number}} Resumption an answer's id, and the seq of the last event that is known */

/**
 * @typedef {object} AnswerOptions
 * @property {string | URL} [url] where the service is; default: where the page came from
 * @property {AbortSignal} [signal] aborts, as `abort()` does
 * @property {Record<string, string>} [headers] sent with every request
 * @property {typeof fetch} [fetch]
 * @property {boolean} [share] share connections among the browser's tabs; default: where it can
 * @property {number} [connections] how many connections the tabs have together; default 4, of HTTP/1.1's 6
 * @property {number} [sliceMs] how long a connection is one tab's while others wait; default 250
 * @property {Partial<Patience>} [patience]
 */

/**
 * An answer that is being followed. Looping over it gives its events: all from the first on, merged where the loop is
 * late or slower than the answer. What the log says (`failed`, too) is an event; what befalls the connection for good is
 * thrown.
 *
 * @typedef {AsyncIterable<AnswerEvent> & {
 *   readonly state: Readonly<AnswerState>,
 *   subscribe: (listener: (state: Readonly<AnswerState>) => void) => () => void,
 *   finished: Promise<Readonly<AnswerState>>,
 *   stop: () => Promise<void>,
 *   abort: (reason?: unknown) => void,
 * }} Answer
 *
 * - `state`: where it stands now
 * - `subscribe`: calls at every change; returns what ends that
 * - `finished`: the last state; it never rejects
 * - `stop`: ends the generation, for everyone
 * - `abort`: only stops following
 */

/**
 * The service sends a heartbeat every 15 seconds: two that did not come may be late, at two and a half the connection
 * is dead.
 *
 * @type {Readonly<Patience>}
 */
export const PATIENCE = Object.freeze({
  silenceMs: 37_500,
  suspicionMs: 16_000,
  resumeMs: 4_000,
  retryMs: 250,
  maxRetryMs: 5_000,
  giveUpMs: 120_000,
  offlineGiveUpMs: 3_600_000, // as long as the service keeps an answer
});

/** Tries of a stop that nobody answers. */
const STOP_TRIES = 5;

/**
 * Starts an answer, or resumes one, and follows it to its end.
 *
 * @param {Question | Resumption} request
 * @param {AnswerOptions} [options]
 * @returns {Answer}
 */
export function openAnswer(request, options = {}) {
  const base = new URL(options.url ?? "/", globalThis.location?.href);
  const patience = { ...PATIENCE, ...options.patience };
  const send = options.fetch ?? globalThis.fetch.bind(globalThis);
  const headers = options.headers ?? {};
  const resumed = "answer" in request;
  const aborting = new AbortController();
  const { signal } = aborting;

  /** @type {Readonly<AnswerState>} */
  let state = Object.freeze({
    ...FIRST_STATE,
    ...(resumed && { id: request.answer, seq: request.after ?? 0 }),
  });
  /** @type {unknown} */
  let trouble = null;
  /** @type {Set<(state: Readonly<AnswerState>) => void>} */
  const listeners = new Set();
  /** @type {Set<ReturnType<typeof createQueue>>} */
  const queues = new Set();
  /** @type {(id: string) => void} */
  let named = () => {};
  /** @type {Promise<string>} */
  const name = new Promise((resolve) => {
    named = resolve;
  });
  if (resumed) {
    named(request.answer);
  }

  /** @param {Partial<AnswerState>} change */
  const become = (change) => {
    state = Object.freeze({ ...state, ...change });
    for (const listener of listeners) {
      try {
        listener(state);
      } catch (error) {
        queueMicrotask(() => {
          throw error; // the listener's own affair: the answer goes on
        });
      }
    }
  };

  /** @type {Subject} */
  const subject = {
    state: () => state,
    accept(event) {
      become(after(state, event));
      for (const queue of queues) {
        queue.push(event);
      }
    },
    enter(phase, waitingFor = null) {
      if (phase !== state.phase || waitingFor !== state.waitingFor) {
        become({ phase, waitingFor });
      }
    },
    identify(id) {
      become({ id });
      named(id);
    },
    alive() {},
  };

  /** @param {string} id */
  const nameOf = (id) => `folyam ${new URL(`answers/${id}`, base)}`;

  const carry = async () => {
    options.signal?.throwIfAborted();
    const sharing = (options.share ?? true) && (await tabsCanAgree());
    signal.throwIfAborted();
    const connections = sharing
      ? createSharedConnections({
          name: `folyam ${base.origin}`,
          count: options.connections ?? 4,
          sliceMs: options.sliceMs ?? 250,
        })
      : UNLIMITED;
    /** @param {Subject} to */
    const follow = (to) =>
      new Follower({
        question: resumed ? null : request,
        subject: to,
        connections,
        options: { fetch: send, base, headers, patience },
        signal,
      }).run();
    // A tab that begins in the middle has no text to compare with another tab's.
    const together = sharing && state.seq === 0;
    if (!together) {
      await follow(subject);
    } else if (resumed) {
      await followTogether(
        nameOf(request.answer),
        subject,
        { silenceMs: patience.silenceMs, signal },
        follow,
      );
    } else {
      await leadOnceNamed(nameOf, subject, follow);
    }
  };
  const abort = (/** @type {unknown} */ reason) => aborting.abort(reason);
  const abortWithSignal = () => abort(options.signal?.reason);
  options.signal?.addEventListener("abort", abortWithSignal);

  const finished = carry()
    .catch((error) => {
      trouble = error;
      if (signal.aborted || options.signal?.aborted) {
        become({ following: false, waitingFor: null });
      } else {
        become({ phase: "failed", following: false, waitingFor: null, failure: failureOf(error) });
      }
    })
    .then(() => {
      options.signal?.removeEventListener("abort", abortWithSignal);
      for (const queue of queues) {
        queue.close(trouble);
      }
      return state;
    });

  const stop = async () => {
    const id = await Promise.race([name, finished.then(() => state.id)]);
    if (id === null || state.end) {
      return;
    }
    for (let attempt = 1; ; attempt += 1) {
      /** @type {number | null} */
      let askedMs = null;
      try {
        const response = await send(new URL(`answers/${encodeURIComponent(id)}/stop`, base), {
          method: "POST",
          headers,
          keepalive: true, // a stop outlives its page
        });
        if (response.ok) {
          return;
        }
        const error =
          (await responseError(response)) ?? new FolyamError("refused", "The answer could not be stopped.");
        askedMs = error.retryAfterMs;
        if (!error.retryable || attempt === STOP_TRIES || (askedMs ?? 0) > patience.giveUpMs) {
          throw error;
        }
      } catch (error) {
        if (error instanceof FolyamError || attempt === STOP_TRIES) {
          throw error;
        }
      }
      const ms = pauseMs(attempt, askedMs, { baseMs: patience.retryMs, maxMs: patience.maxRetryMs });
      await new Promise((resolve) => setTimeout(resolve, ms));
    }
  };

  return {
    get state() {
      return state;
    },
    finished,
    stop,
    abort,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    [Symbol.asyncIterator]() {
      const queue = createQueue(() => queues.delete(queue));
      for (const event of eventsBetween(FIRST_STATE, state)) {
        queue.push(event);
      }
      if (!state.following) {
        queue.close(trouble);
      }
      queues.add(queue);
      return queue.iterator;
    },
  };
}

/**
 * @param {unknown} error
 * @returns {import("./state.js").Failure}
 */
function failureOf(error) {
  const { code, message, retryable, retryAfterMs } =
    error instanceof FolyamError ? error : new FolyamError("protocol", String(error));
  return { code, message, retryable, of: "connection", retryAfterMs };
}

/**
 * Events for one loop. A loop that is slower than the answer gets neighbouring deltas as one, under the last one's seq:
 * what waits is never more than the text itself.
 *
 * @param {() => void} onReturn
 */
function createQueue(onReturn) {
  /** @type {AnswerEvent[]} */
  const waiting = [];
  let closed = false;
  /** @type {unknown} */
  let trouble = null;
  /** @type {(() => void) | null} */
  let wake = null;
  const settle = () => {
    wake?.();
    wake = null;
  };
  return {
    /** @param {AnswerEvent} event */
    push(event) {
      const last = waiting.at(-1);
      if (last?.type === "delta" && event.type === "delta") {
        waiting[waiting.length - 1] = merged(last, event);
      } else {
        waiting.push(event);
      }
      settle();
    },
    /** @param {unknown} reason what to throw after the last event, or null */
    close(reason) {
      closed = true;
      trouble = reason;
      settle();
    },
    /** @type {AsyncIterator<AnswerEvent>} */
    iterator: {
      async next() {
        while (waiting.length === 0 && !closed) {
          await new Promise((resolve) => (wake = () => resolve(undefined)));
        }
        const event = waiting.shift();
        if (event) {
          return { done: false, value: event };
        }
        onReturn();
        if (trouble !== null) {
          const error = trouble;
          trouble = null;
          throw error;
        }
        return { done: true, value: undefined };
      },
      async return() {
        closed = true;
        waiting.length = 0;
        onReturn();
        return { done: true, value: undefined };
      },
    },
  };
}

/**
 * @param {import("./events.js").DeltaEvent} first
 * @param {import("./events.js").DeltaEvent} second
 * @returns {import("./events.js").DeltaEvent}
 */
function merged(first, second) {
  const text = (first.text ?? first.refusal ?? "") + (second.text ?? second.refusal ?? "");
  const reasoning = (first.reasoning ?? "") + (second.reasoning ?? "");
  return { seq: second.seq, type: "delta", ...(reasoning && { reasoning }), ...(text && { text }) };
}
