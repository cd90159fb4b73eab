import { pauseMs } from "./backoff.js";
import { FolyamError } from "./errors.js";
import { responseError } from "./response.js";

/** @import { Service } from "./service.js" */

/** Attempts at a stop that gets no response, or a retryable error. */
const STOP_ATTEMPTS = 5;

/**
 * Stop an answer's generation. Resolves once the service has confirmed it.
 *
 * @param {string} id
 * @param {Service} service
 * @throws {FolyamError} the service refused, or asked for a longer pause than `giveUpMs`
 * @throws {TypeError} from `fetch`: there was no response
 */
export async function stopAnswer(id, service) {
  const { retryMs, maxRetryMs, giveUpMs } = service.patience;
  for (let attempt = 1; ; attempt += 1) {
    const error = await attemptToStop(id, service);
    if (error === null) {
      return;
    }
    const [askedMs, retryable] =
      error instanceof FolyamError ? [error.retryAfterMs, error.retryable] : [null, true];
    if (!retryable || attempt === STOP_ATTEMPTS || (askedMs ?? 0) > giveUpMs) {
      throw error;
    }
    const ms = pauseMs(attempt, askedMs, { baseMs: retryMs, maxMs: maxRetryMs });
    await new Promise((resolve) => setTimeout(resolve, ms));
  }
}

/**
 * @param {string} id
 * @param {Service} service
 * @returns {Promise<unknown>} why it did not stop, or null
 */
async function attemptToStop(id, { fetch, base, headers }) {
  try {
    const response = await fetch(new URL(`answers/${encodeURIComponent(id)}/stop`, base), {
      method: "POST",
      headers,
      keepalive: true, // a stop outlives its page
    });
    if (response.ok) {
      return null;
    }
    return (await responseError(response)) ?? new FolyamError("refused", "The answer could not be stopped.");
  } catch (error) {
    return error;
  }
}
