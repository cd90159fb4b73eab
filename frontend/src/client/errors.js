/**
 * Why following an answer came to nothing, or was refused. What the answer's own log says (`failed`) is an event and
 * never this; what befell the connection is this and never an event.
 *
 * | code | meaning |
 * | --- | --- |
 * | the service's own | the service refused the request and said why |
 * | `refused` | the same, without a readable reason |
 * | `unknown_answer` | there is no such answer (any more) |
 * | `unreachable` | no connection brought anything new for as long as one was patient |
 * | `offline` | the device was offline for as long as one was patient |
 * | `unsure` | a question was sent and the connection broke before the answer's id came: it may have begun |
 * | `protocol` | what came is not an answer of this service |
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

/** The codes that this library gives of its own; `unknown` is that of a `failed` answer whose reason is not in its log. */
export const CLIENT_CODES = ["refused", "unreachable", "offline", "unsure", "protocol", "unknown"];
