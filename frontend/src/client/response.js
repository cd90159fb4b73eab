import { retryAfterMs } from "./backoff.js";
import { createDecoder } from "./decoder.js";
import { FolyamError, isRetryable } from "./errors.js";

/**
 * Return why a response is not a stream of events, or null if it is one.
 *
 * @param {Response} response
 * @returns {Promise<FolyamError | null>}
 */
export async function responseError(response) {
  const { status } = response;
  if (status === 200) {
    const type = response.headers.get("Content-Type") ?? "";
    return type.startsWith("text/event-stream")
      ? null
      : new FolyamError(
          "protocol",
          `The server sent ${type || "a response without a type"} instead of an answer.`,
          {
            status,
          },
        );
  }
  const said = await errorIn(response);
  const retryable = isRetryable(status, said?.code);
  return new FolyamError(
    said?.code ?? (status === 404 ? "unknown_answer" : "refused"),
    said?.message ?? `The server answered with status ${status}.`,
    {
      status,
      retryable,
      retryAfterMs: retryable ? retryAfterMs(response.headers.get("Retry-After")) : null,
    },
  );
}

/** @param {Response} response */
async function errorIn(response) {
  try {
    const { error } = await response.json();
    return { code: String(error.code), message: String(error.message) };
  } catch {
    return null; // a proxy's page, or nothing
  }
}

/**
 * Read a stream to its end. `onLife` is called for any bytes: a heartbeat is a comment and gives no message.
 *
 * @param {ReadableStream<Uint8Array>} body
 * @param {object} hooks
 * @param {() => void} hooks.onLife
 * @param {(data: string, id: string | undefined) => void} hooks.onMessage
 * @param {(ms: number) => void} hooks.onRetry
 */
export async function readStream(body, { onLife, onMessage, onRetry }) {
  const decoder = createDecoder({ onMessage, onRetry });
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return;
    }
    onLife();
    decoder.feed(value);
  }
}
