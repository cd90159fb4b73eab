/**
 * Misbehaviours of an answer's connections. Each is an endpoint: `/<name>/generate`, `/<name>/answers/<id>`.
 *
 * @typedef {object} Course what happens to one connection
 * @property {string} [error] the service's error in place of a stream, by its code
 * @property {number} [status] a proxy's response in place of a stream
 * @property {string} [page] its HTML
 * @property {string} [retryAfter] the Retry-After of either
 * @property {boolean} [hangUpFirst] the connection is cut before any status
 * @property {boolean} [noStatus] it stays open without one
 * @property {boolean} [beginsUnheard] a question has begun its answer before that
 * @property {number} [cutAfter] events sent, then the socket is destroyed
 * @property {number} [endAfter] events sent, then a clean end that is no end of the answer
 * @property {number} [stallAfter] events sent, then nothing, with the connection open
 * @property {number} [garbageAfter] events sent, then half an event and a whole blank line
 * @property {boolean} [byteByByte]
 * @property {boolean} [merge] neighbouring deltas as one
 * @property {boolean} [fromTheStart] the offset asked for is ignored
 * @property {boolean} [anotherAnswer] events of another answer
 * @property {string} [preamble] sent before the first event
 */

/**
 * @typedef {object} Behaviour
 * @property {number} [chunks]
 * @property {number} [paceMs]
 * @property {number} [firstMs] silence before the first token
 * @property {number} [heartbeatMs]
 * @property {boolean} [noAnswerHeader]
 * @property {Record<number, {type: string, [field: string]: unknown}>} [instead] events in place of the log's own, by place
 * @property {Record<number, number>} [takeOvers] numbers from which the events go on, by the place of the first of them
 * @property {(connection: number) => Course} [course] what happens to the first, second, … connection of an answer
 * @property {(stop: number) => Course} [stopCourse] the same for requests to stop
 * @property {(question: number) => Course} [questionCourse] the same for questions that are refused
 */

const WHOLE = {};

/** @param {Course} course */
const once = (course) => (/** @type {number} */ n) => (n === 1 ? course : WHOLE);

/**
 * The first connection ends cleanly: what is resumed must have arrived. When a connection is cut, a browser drops what its
 * page has not read yet, which on a busy machine is all of it.
 *
 * @param {Course} course
 */
const fromTheSecond = (course) => (/** @type {number} */ n) => (n === 1 ? { endAfter: 5 } : course);

const BUSY_PAGE = "<h1>Service unavailable</h1>";

/** Two deltas of each voice, and one more of reasoning. */
const VOICES = {
  2: { type: "delta", reasoning: "Is it " },
  3: { type: "delta", reasoning: "right? " },
  6: { type: "delta", reasoning: "No. " },
  7: { type: "delta", refusal: "I will " },
  8: { type: "delta", refusal: "not." },
};

/** Two calls of tools, whose pieces take turns, and text between. */
const CALLS = {
  3: { type: "delta", tool_call: { index: 0, id: "a", name: "weather", arguments: "" } },
  4: { type: "delta", tool_call: { index: 0, arguments: '{"city":' } },
  5: { type: "delta", tool_call: { index: 1, id: "b", name: "time", arguments: "{" } },
  6: { type: "delta", tool_call: { index: 0, arguments: '"Gy' } },
  7: { type: "delta", tool_call: { index: 0, arguments: 'őr 🌊"}' } },
  8: { type: "delta", tool_call: { index: 1, arguments: "}" } },
};

/** @type {Record<string, Behaviour>} */
export const BEHAVIOURS = {
  whole: {},
  paced: { chunks: 40, paceMs: 20 },
  long: { chunks: 400, paceMs: 20 },
  endless: { chunks: 1_000_000, paceMs: 20 },
  slow: { chunks: 20, paceMs: 100 },

  "drops-midway": { course: (n) => (n <= 3 ? { cutAfter: 5 } : WHOLE) },
  "drops-at-every-event": { course: () => ({ cutAfter: 1 }) },
  "drops-after-the-headers": { course: once({ cutAfter: 0 }) },
  "ends-early": { course: once({ endAfter: 5 }) },
  "ends-for-ever": { course: (n) => (n === 1 ? { endAfter: 5 } : { endAfter: 0 }) },
  "hangs-up": { questionCourse: () => ({ hangUpFirst: true }) },
  "hangs-up-with-the-answer": { questionCourse: once({ beginsUnheard: true, hangUpFirst: true }) },
  "silent-with-the-answer": { questionCourse: once({ beginsUnheard: true, noStatus: true }) },
  "gateway-fails-with-the-answer": { questionCourse: once({ beginsUnheard: true, status: 502, page: "" }) },
  "no-status": { questionCourse: () => ({ noStatus: true }) },

  stalled: { course: once({ stallAfter: 5 }) },
  "stalled-before-the-first": { course: once({ stallAfter: 0 }) },
  "stalled-for-ever": { course: () => ({ stallAfter: 0 }) },
  heartbeats: { firstMs: 5000, heartbeatMs: 50 },
  trickle: { chunks: 4, course: () => ({ byteByByte: true }) },

  "busy-once": { questionCourse: once({ error: "too_many_answers_of_yours", retryAfter: "1" }) },
  "busy-for-long": { questionCourse: () => ({ error: "upstream_rate_limited", retryAfter: "3600" }) },
  "busy-and-in-a-hurry": { questionCourse: () => ({ error: "upstream_rate_limited", retryAfter: "0" }) },
  "busy-until-a-time-that-has-passed": {
    questionCourse: () => ({ status: 503, page: BUSY_PAGE, retryAfter: "Wed, 21 Oct 2015 07:28:00 GMT" }),
  },
  "upstream-away-once": { questionCourse: once({ error: "upstream_unavailable", retryAfter: "1" }) },
  "upstream-slow-once": { questionCourse: once({ error: "upstream_timeout", retryAfter: "1" }) },
  "upstream-away-and-in-a-hurry": {
    questionCourse: () => ({ error: "upstream_unavailable", retryAfter: "0" }),
  },
  "gateway-with-a-time": { questionCourse: () => ({ status: 502, page: BUSY_PAGE, retryAfter: "0" }) },
  "gateway-that-waited": { questionCourse: () => ({ status: 504, page: BUSY_PAGE, retryAfter: "0" }) },
  "service-unreachable": { questionCourse: () => ({ error: "service_unreachable", retryAfter: "2" }) },
  "refused-for-good-with-a-time": {
    questionCourse: () => ({ error: "upstream_credentials", retryAfter: "1" }),
  },
  "busy-without-a-time": { questionCourse: () => ({ error: "upstream_rate_limited" }) },
  refuses: { questionCourse: () => ({ error: "empty_query" }) },
  "bad-gateway": { questionCourse: () => ({ status: 502, page: "<h1>Bad gateway</h1>" }) },
  "a-login-page": { questionCourse: () => ({ status: 200, page: "<h1>Welcome</h1>" }) },

  "resumes-when-ready": {
    course: (n) => (n === 2 ? { error: "draining", retryAfter: "1" } : fromTheSecond(WHOLE)(n)),
  },
  "resumes-when-the-gateway-is-ready": {
    course: (n) => (n === 2 ? { status: 502, page: BUSY_PAGE, retryAfter: "1" } : fromTheSecond(WHOLE)(n)),
  },
  "resumes-when-the-gateway-has-waited": {
    course: (n) => (n === 2 ? { error: "service_timeout", retryAfter: "1" } : fromTheSecond(WHOLE)(n)),
  },
  "resumes-through-a-gateway-in-a-hurry": {
    course: fromTheSecond({ status: 504, page: BUSY_PAGE, retryAfter: "0" }),
  },
  "resumes-in-a-hurry": { course: fromTheSecond({ status: 503, page: BUSY_PAGE, retryAfter: "0" }) },
  "resumes-into-nothing": {
    course: (n) => (n === 2 || n === 3 ? { noStatus: true } : fromTheSecond(WHOLE)(n)),
  },
  restarting: {
    course: (n) => (n === 2 || n === 3 ? { status: 502, page: "" } : fromTheSecond(WHOLE)(n)),
  },
  forgotten: { course: fromTheSecond({ error: "unknown_answer" }) },
  "nothing-left-for-ever": { chunks: 1_000_000, paceMs: 20, course: fromTheSecond({ status: 204 }) },
  "nothing-left": { course: fromTheSecond({ status: 204 }) },
  "replays-all": { course: fromTheSecond({ fromTheStart: true }) },
  merges: { paceMs: 0, course: fromTheSecond({ merge: true }) },
  "another-answer": { course: fromTheSecond({ fromTheStart: true, anotherAnswer: true }) },
  garbage: { course: once({ garbageAfter: 5 }) },
  "garbage-for-ever": { course: () => ({ garbageAfter: 0 }) },
  "retry-field": { course: once({ preamble: "retry: 1200\n", endAfter: 5 }) },
  "retry-field-for-ever": { course: once({ preamble: "retry: 99999999999\n", endAfter: 5 }) },
  "retry-field-in-a-hurry": { course: (n) => ({ preamble: "retry: 0\n", cutAfter: n === 1 ? 5 : 0 }) },
  "byte-order-mark": { course: () => ({ preamble: "\ufeff: a comment\r\n\r\nan unknown line\n\n" }) },
  "no-answer-header": { noAnswerHeader: true, course: once({ endAfter: 5 }) },

  "taken-over": {
    takeOvers: { 6: 1_795_667_998_131_690, 12: 1_795_667_999_000_000, 18: Number.MAX_SAFE_INTEGER - 100 },
    course: (n) => (n <= 4 ? { cutAfter: 4 } : WHOLE),
  },

  restarts: { instead: { 10: { type: "restart" } } },
  reasons: { instead: { 3: { type: "delta", reasoning: "Hm. " } } },
  "all-voices": { chunks: 8, paceMs: 20, instead: VOICES },
  "merges-all-voices": { chunks: 8, paceMs: 0, instead: VOICES, course: () => ({ merge: true }) },
  "calls-tools": { chunks: 8, paceMs: 20, instead: CALLS },
  "calls-tools-and-drops": { chunks: 8, instead: CALLS, course: () => ({ cutAfter: 1 }) },
  "merges-calls-of-tools": { chunks: 8, paceMs: 0, instead: CALLS, course: () => ({ merge: true }) },
  "calls-tools-and-restarts": { chunks: 8, instead: { ...CALLS, 9: { type: "restart" } } },
  "says-failed": {
    instead: {
      10: {
        type: "failed",
        code: "upstream_timeout",
        message: "The model's server stopped sending in the middle of its answer.",
        retryable: true,
      },
    },
  },
  "from-the-future": { instead: { 4: { type: "weather", sky: "blue" } } },

  "stops-at-the-second-try": {
    chunks: 1_000_000,
    paceMs: 20,
    stopCourse: once({ status: 503, page: "" }),
  },
  "stops-when-ready": {
    chunks: 1_000_000,
    paceMs: 20,
    stopCourse: once({ error: "stop_pending", retryAfter: "1" }),
  },
  "stops-much-later": {
    chunks: 1_000_000,
    paceMs: 20,
    stopCourse: once({ status: 503, page: BUSY_PAGE, retryAfter: "3600" }),
  },
  "does-not-stop": {
    chunks: 1_000_000,
    paceMs: 20,
    stopCourse: () => ({ status: 500, page: "" }),
  },
  "stop-hangs-up": { chunks: 1_000_000, paceMs: 20, stopCourse: () => ({ hangUpFirst: true }) },
};
