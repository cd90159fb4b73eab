/**
 * How long to wait before try number `attempt` (1, 2, 3, …): doubling, bounded, and spread at random over its upper half
 * so that the followers of a restarted service do not come back in one moment.
 *
 * @param {number} attempt
 * @param {{baseMs: number, maxMs: number, random?: () => number}} bounds
 */
export function backoffMs(attempt, { baseMs, maxMs, random = Math.random }) {
  const full = Math.min(maxMs, baseMs * 2 ** (attempt - 1));
  return full / 2 + (full / 2) * random();
}

/**
 * "Retry-After = HTTP-date / delay-seconds" (RFC 9110, 10.2.3), in milliseconds from now; null where it is neither.
 *
 * @param {string | null} value
 * @param {number} [now]
 */
export function retryAfterMs(value, now = Date.now()) {
  if (value === null) {
    return null;
  }
  if (/^\s*\d+\s*$/.test(value)) {
    return Number(value) * 1000;
  }
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}
