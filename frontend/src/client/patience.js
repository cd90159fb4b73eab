/**
 * @typedef {object} Patience
 * @property {number} silenceMs timeout for the next byte on a connection
 * @property {number} resumeMs timeout for the status of the sixth try to resume; half of it for those before, doubled for each further one, up to
 *   `silenceMs`
 * @property {number} suspicionMs silence after which a connection is renewed when the page is shown again
 * @property {number} retryMs the first pause between two tries, unless the service names a longer one
 * @property {number} maxRetryMs the longest pause that the service has not asked for
 * @property {number} giveUpMs limit on the time spent trying without a new event
 * @property {number} offlineGiveUpMs the same limit while the device is offline
 */

/**
 * The service sends a heartbeat every 15 seconds. Two missing ones may be late; after two and a half intervals the
 * connection is taken for dead.
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
  offlineGiveUpMs: 3_600_000, // the service's default retention of answers
});
