import { createParser } from "eventsource-parser";

/** A whole long answer may come as one merged event; anything beyond this is no answer. */
const LONGEST_EVENT_CHARACTERS = 16 * 1024 * 1024;

/**
 * Bytes in, messages out; no I/O. One decoder reads one response: the standard's "Once the end of the file is reached,
 * any pending data must be discarded. (If the file ends in the middle of an event, before the final empty line, the
 * incomplete event is not dispatched.)" is met by throwing the decoder away with the response.
 *
 * Lines that are no fields are ignored, as the standard has it ("Otherwise: The field is ignored"): a page of HTML in
 * place of a stream yields nothing.
 *
 * @param {object} hooks
 * @param {(data: string, id: string | undefined) => void} hooks.onMessage
 * @param {(ms: number) => void} [hooks.onRetry] "set the event stream's reconnection time to that integer"
 */
export function createDecoder({ onMessage, onRetry }) {
  // "Streams must be decoded using the UTF-8 decode algorithm", which "strips one leading UTF-8 Byte Order Mark (BOM),
  // if any": TextDecoder does both, and keeps a character cut by the network until its other half comes.
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
