/**
 * An answer could not be followed, or a request was refused. A failure of the answer itself is a `failed` event and never
 * this error; a failure of the connection is this error and never an event.
 *
 * | code | meaning |
 * | --- | --- |
 * | the service's own | the service refused the request with this code |
 * | `refused` | the request was refused without a readable error |
 * | `unknown_answer` | the answer does not exist, or has expired |
 * | `unreachable` | no connection brought a new event within `giveUpMs` |
 * | `offline` | the device was offline for `offlineGiveUpMs` |
 * | `protocol` | the response is not an answer of this service |
 */
export class FolyamError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{retryable?: boolean, status?: number | null, retryAfterMs?: number | null, cause?: unknown}} [details]
   */
  constructor(code, message, { retryable = true, status = null, retryAfterMs = null, cause } = {}) {
    super(message, { cause });
    this.name = "FolyamError";
    this.code = code;
    this.retryable = retryable;
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The library's own codes. An answer that failed has `unknown` where the service no longer sends the `failed` event. */
export const CLIENT_CODES = ["refused", "unreachable", "offline", "protocol", "unknown"];

/**
 * Codes that no retry helps although their status may be a 5xx: the service's configuration is wrong, or the
 * request is of a kind that the service lacks. They are not retryable in docs/protocol/errors.json.
 */
const LASTING = new Set([
  "http_error",
  "http_version_not_supported",
  "not_implemented",
  "upstream_credentials",
  "upstream_not_found",
  "upstream_redirected",
]);

/**
 * Return whether a refused request may succeed later. The status decides where the code is missing or unknown.
 *
 * @param {number} status
 * @param {string | undefined} code
 */
export function isRetryable(status, code) {
  return (status === 408 || status === 425 || status === 429 || status >= 500) && !LASTING.has(code ?? "");
}

/**
 * Return whether an error to a question is that of a gateway which does not know whether an answer was begun: the service may
 * have taken the question. The service's own `upstream_…` errors, of the same statuses, mean that it kept no answer.
 *
 * @param {FolyamError} error
 */
export function isOfGateway({ status, code }) {
  return (status === 502 || status === 504) && !code.startsWith("upstream_");
}
