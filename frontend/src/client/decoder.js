import { createParser } from "eventsource-parser";

/** Limit on one event. A whole long answer may come as one merged event. */
const LONGEST_EVENT_CHARACTERS = 16 * 1024 * 1024;

/**
 * Decode Server-Sent Events: bytes in, messages out, no I/O. One decoder reads one response. The standard's "Once the end of
 * the file is reached, any pending data must be discarded. (If the file ends in the middle of an event, before the final
 * empty line, the incomplete event is not dispatched.)" holds because the decoder is discarded with the response.
 *
 * Other lines are ignored ("Otherwise: The field is ignored"): a page of HTML in place of a stream gives no messages.
 *
 * @param {object} hooks
 * @param {(data: string, id: string | undefined) => void} hooks.onMessage
 * @param {(ms: number) => void} [hooks.onRetry] "set the event stream's reconnection time to that integer"
 */
export function createDecoder({ onMessage, onRetry }) {
  // "Streams must be decoded using the UTF-8 decode algorithm", which "strips one leading UTF-8 Byte Order Mark (BOM),
  // if any": TextDecoder does both, and keeps an incomplete character until the rest of its bytes arrives.
  const utf8 = new TextDecoder();
  const parser = createParser({
    onEvent: ({ data, id }) => onMessage(data, id),
    onRetry,
    maxBufferSize: LONGEST_EVENT_CHARACTERS,
  });
  return {
    /** @param {Uint8Array} bytes */
    feed(bytes) {
      const text = utf8.decode(bytes, { stream: true });
      if (text !== "") {
        parser.feed(text);
      }
    },
  };
}
