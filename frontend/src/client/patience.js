/**
 * @typedef {object} Patience
 * @property {number} silenceMs how long a connection may be without a byte
 * @property {number} resumeMs how long the first try to resume may take to be answered at all; the next ones take
 *   twice as long each, up to silenceMs. A browser uses idle connections again, and after a change of networks each of
 *   them is as dead as the lost one.
 * @property {number} suspicionMs how long it may have been when someone comes back to the page
 * @property {number} retryMs the first pause between two tries, unless the service names a longer one
 * @property {number} maxRetryMs the longest pause that the service has not asked for
 * @property {number} giveUpMs how long to go on trying without anything new
 * @property {number} offlineGiveUpMs the same while the device is offline
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
