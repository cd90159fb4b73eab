import { Follower } from "./follower.js";
import { tabsCanAgree } from "./locks.js";
import { followTogether, leadOnceNamed } from "./relay.js";
import { createSharedConnections, UNLIMITED } from "./shared-connections.js";
import { serviceIn } from "./service.js";
import { stopAnswer } from "./stop.js";
import { createSubject } from "./subject.js";

/** @import { AnswerEvent } from "./events.js" */
/** @import { AnswerState } from "./state.js" */
/** @import { Patience } from "./patience.js" */
/** @import { Service } from "./service.js" */
/** @import { Subject } from "./subject.js" */

/**
 * @typedef {object} Question
 * @property {string} query
 * @property {{role: "user" | "assistant", content: string}[]} [history] earlier turns, oldest first
 * @property {string} [model]
 * @property {number} [temperature]
 * @property {number} [max_tokens]
 */

/** @typedef {{answer: string, after?: number}} Resumption an answer's id, and the seq of the last event already received */

/**
 * @typedef {object} AnswerOptions
 * @property {string | URL} [url] where the service is; default: where the page came from
 * @property {string} [key] the question's `Idempotency-Key`: the same question with the same key is the same answer, also
 *   after a reload; default: a random one
 * @property {AbortSignal} [signal] aborts, as `abort()` does
 * @property {Record<string, string>} [headers] sent with every request
 * @property {typeof fetch} [fetch]
 * @property {boolean} [share] share connections among the browser's tabs; default: where it can
 * @property {number} [connections] how many connections the tabs have together; default 4, of HTTP/1.1's 6
 * @property {number} [sliceMs] how long a connection is one tab's while others wait; default 250
 * @property {Partial<Patience>} [patience]
 */

/**
 * An answer that is being followed. A loop over it gets all events from the first on; neighbouring deltas of one voice are
 * merged where the loop starts late or is slower than the answer. An event of the log, `failed` included, is never thrown.
 * When following fails for good, the loop throws a `FolyamError`.
 *
 * @typedef {AsyncIterable<AnswerEvent> & {
 *   readonly state: Readonly<AnswerState>,
 *   subscribe: (listener: (state: Readonly<AnswerState>) => void) => () => void,
 *   finished: Promise<Readonly<AnswerState>>,
 *   stop: () => Promise<void>,
 *   abort: (reason?: unknown) => void,
 * }} Answer
 *
 * - `state`: the current state
 * - `subscribe`: call the listener at every change; returns a function that removes it
 * - `finished`: resolves to the last state; never rejects
 * - `stop`: end the generation, for all followers
 * - `abort`: stop following; the generation goes on
 */

/**
 * Start an answer, or resume one, and follow it to its end.
 *
 * @param {Question | Resumption} request
 * @param {AnswerOptions} [options]
 * @returns {Answer}
 */
export function openAnswer(request, options = {}) {
  const service = serviceIn(options);
  const subject = createSubject("answer" in request ? { id: request.answer, seq: request.after ?? 0 } : {});
  const aborting = new AbortController();
  const abort = (/** @type {unknown} */ reason) => aborting.abort(reason);
  const abortWithSignal = () => abort(options.signal?.reason);
  options.signal?.addEventListener("abort", abortWithSignal);

  const finished = follow(request, subject, { options, service, signal: aborting.signal })
    .then(subject.close, (error) => {
      subject.giveUp(error, { aborted: aborting.signal.aborted || Boolean(options.signal?.aborted) });
    })
    .then(() => {
      options.signal?.removeEventListener("abort", abortWithSignal);
      return subject.state();
    });

  return {
    get state() {
      return subject.state();
    },
    finished,
    async stop() {
      const id = await Promise.race([subject.named, finished.then((state) => state.id)]);
      if (id !== null && !subject.state().end) {
        await stopAnswer(id, service);
      }
    },
    abort,
    subscribe: subject.subscribe,
    [Symbol.asyncIterator]: subject.events,
  };
}

/**
 * Follow an answer to its end: over connections shared with other tabs where the browser allows it, else alone.
 *
 * @param {Question | Resumption} request
 * @param {Subject} subject
 * @param {{options: AnswerOptions, service: Service, signal: AbortSignal}} how
 */
async function follow(request, subject, { options, service, signal }) {
  options.signal?.throwIfAborted();
  const sharing = (options.share ?? true) && (await tabsCanAgree());
  signal.throwIfAborted();
  const { base, patience } = service;
  const connections = sharing
    ? createSharedConnections({
        name: `folyam ${base.origin}`,
        count: options.connections ?? 4,
        sliceMs: options.sliceMs ?? 250,
      })
    : UNLIMITED;
  const question = "answer" in request ? null : request;
  const key = options.key ?? randomKey();
  /** @param {Subject} to */
  const followAlone = (to) =>
    new Follower({ question, key, subject: to, connections, service, signal }).run();
  /** @param {string} id */
  const nameOf = (id) => channelName(new URL(`answers/${id}`, base));

  // A tab that starts in the middle of the answer cannot join: it does not have the history that the others share.
  if (!sharing || subject.state().seq > 0) {
    await followAlone(subject);
  } else if ("answer" in request) {
    const name = nameOf(request.answer);
    await followTogether(name, subject, { silenceMs: patience.silenceMs, signal }, followAlone);
  } else {
    await leadOnceNamed(nameOf, subject, followAlone);
  }
}

/** Return 128 random bits. `crypto.randomUUID` is missing in pages that came without TLS. */
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The name of an answer's lock and channel. The number is the version of the messages: a tab with another version of the
 * page must not read them.
 *
 * @param {URL} url the answer's
 */
function channelName(url) {
  return `folyam 2 ${url}`;
}
