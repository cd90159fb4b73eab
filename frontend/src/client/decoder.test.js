import { expect, test } from "vitest";
import { createDecoder } from "./decoder.js";

/** @param {Uint8Array[]} pieces */
function decode(...pieces) {
  /** @type {unknown[]} */
  const seen = [];
  const decoder = createDecoder({
    onMessage: (data, id) => seen.push(id === undefined ? { data } : { data, id }),
    onRetry: (retry) => seen.push({ retry }),
  });
  for (const piece of pieces) {
    decoder.feed(piece);
  }
  return seen;
}

/** @param {string} text */
const bytes = (text) => new TextEncoder().encode(text);

// The examples of the HTML standard, 9.2.6 "Interpreting an event stream".
const EXAMPLES = {
  two_lines_of_data_are_joined_by_a_line_feed: [
    "data: YHOO\ndata: +2\ndata: 10\n\n",
    [{ data: "YHOO\n+2\n10" }],
  ],
  comments_ids_and_no_space_after_the_colon: [
    ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
    [{ data: "first event", id: "1" }, { data: "second event", id: "" }, { data: " third event" }],
  ],
  an_empty_data_field_is_an_event_and_an_unfinished_one_is_not: [
    "data\n\ndata\ndata\n\ndata:",
    [{ data: "" }, { data: "\n" }],
  ],
  one_space_after_the_colon_is_ignored: ["data:test\n\ndata: test\n\n", [{ data: "test" }, { data: "test" }]],
  lines_end_with_cr_lf_or_both: [
    "data: a\r\rdata: b\n\ndata: c\r\n\r\n",
    [{ data: "a" }, { data: "b" }, { data: "c" }],
  ],
  a_leading_byte_order_mark_is_no_text: ["\ufeffdata: á\n\n", [{ data: "á" }]],
  retry_is_digits_only: ["retry: 1200\nretry: soon\ndata: x\n\n", [{ retry: 1200 }, { data: "x" }]],
  the_services_own_layout: [
    ":\nretry: 1000\nevent: start\ndata: {}\nid: a:1\n\n:\n:\nevent: delta\ndata: {}\nid: a:2\n\n:\n",
    [{ retry: 1000 }, { data: "{}", id: "a:1" }, { data: "{}", id: "a:2" }],
  ],
  a_page_of_html_is_nothing: ["<!doctype html>\n<h1>Welcome</h1>\n\n", []],
};

for (const [name, [stream, expected]] of Object.entries(EXAMPLES)) {
  test(name, () => {
    expect(decode(bytes(String(stream)))).toEqual(expected);
  });

  test(`${name}_wherever_the_bytes_are_cut`, () => {
    const whole = bytes(String(stream));
    for (let cut = 1; cut < whole.length; cut += 1) {
      expect(decode(whole.slice(0, cut), whole.slice(cut))).toEqual(expected);
    }
    expect(decode(...Array.from(whole, (byte) => Uint8Array.of(byte)))).toEqual(expected);
  });
}

test("an_endless_line_ends_in_an_error_and_not_in_all_memory", () => {
  const decoder = createDecoder({ onMessage: () => {} });
  const piece = bytes("x".repeat(1024 * 1024));
  expect(() => {
    for (let megabytes = 0; megabytes < 40; megabytes += 1) {
      decoder.feed(piece);
    }
  }).toThrow();
});
