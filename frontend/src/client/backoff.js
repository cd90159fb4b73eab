/** The longest delay that `setTimeout` supports. With a longer one it fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * The pause before try number `attempt` (1, 2, 3, …), in milliseconds: doubled each time, bounded, with jitter over its
 * upper half, so that the followers of a restarted service do not reconnect all at once.
 *
 * @typedef {{baseMs: number, maxMs: number, random?: () => number}} Bounds
 *
 * @param {number} attempt
 * @param {Bounds} bounds
 */
export function backoffMs(attempt, { baseMs, maxMs, random = Math.random }) {
  const full = Math.min(maxMs, baseMs * 2 ** (attempt - 1));
  return full / 2 + (full / 2) * random();
}

/**
 * The longer of the back-off and the pause that the server asked for. A shorter request is ignored: a proxy that sends
 * `Retry-After: 0`, or a date in the past by this device's clock, would otherwise be asked without any pause.
 *
 * @param {number} attempt
 * @param {number | null} askedMs
 * @param {Bounds} bounds
 */
export function pauseMs(attempt, askedMs, bounds) {
  return Math.min(LONGEST_TIMER_MS, Math.max(askedMs ?? 0, backoffMs(attempt, bounds)));
}

/** "delay-seconds = 1*DIGIT"; some gateways send a fraction. */
const SECONDS = /^\d+(?:\.\d+)?$/;

/** The three forms of an HTTP-date (RFC 9110, 5.6.7) begin with a day's name. `Date.parse` takes far more: "-1", "1.5". */
const DATE = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)/;

/** The asctime form ends with the year and names no time zone. */
const ZONELESS = / \d{4}$/;

/**
 * "Retry-After = HTTP-date / delay-seconds" (RFC 9110, 10.2.3), in milliseconds from now; null where it is neither.
 *
 * @param {string | null} value
 * @param {number} [now]
 */
export function retryAfterMs(value, now = Date.now()) {
  const text = value?.trim() ?? "";
  if (SECONDS.test(text)) {
    return Number(text) * 1000;
  }
  const date = DATE.test(text) ? Date.parse(ZONELESS.test(text) ? `${text} GMT` : text) : NaN;
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}
