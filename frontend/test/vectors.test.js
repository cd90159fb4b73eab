import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { BEHAVIOURS } from "./behaviours.js";
import { ERRORS as SENT, errorBody } from "./errors.js";
import { RETRY_MS, sendEvents } from "./following.js";
import { wholeOf } from "./log.js";
import { merge, preamble, render } from "./rendering.js";
import { parseEventId, placeIn } from "./resuming.js";
import { ANSWERS, ERRORS, EVENT_IDS, MERGING, RESUMING } from "./vectors.js";

// The fake service sends what docs/protocol/*.json says that a service sends.

/** @import { Log } from "./log.js" */
/** @import { VectorEvent } from "./vectors.js" */

/** A log that holds these events. @param {string} id @param {VectorEvent[]} events */
function logOf(id, events) {
  const last = Number(events.at(-1)?.seq);
  const isOver = wholeOf(id, events).state !== "running";
  const log = { id, last, isOver, events: (/** @type {number} */ from) => events.slice(from - 1) };
  return /** @type {Log} */ (/** @type {unknown} */ (log));
}

/** What a connection sends of a log that has ended. @param {Log} log */
async function sent(log) {
  const response = new PassThrough();
  const body = text(response);
  sendEvents(log, 0, /** @type {any} */ (response), {}, {});
  return body;
}

describe.each(ANSWERS)("$name", ({ answer, events, bodies, reading }) => {
  const body = String(bodies["text/event-stream"]?.join(""));

  test("is_written_in_the_vectors_bytes", () => {
    expect(preamble(1000) + events.map((event) => render(answer, event)).join("")).toBe(body);
  });

  test("is_read_as_the_vector_says", () => {
    expect(wholeOf(answer, events)).toEqual(reading);
  });
});

const ENDED = ANSWERS.filter(({ reading }) => reading.state !== "running");

test.each(ENDED)(
  "$name is sent in the vector's bytes, but for the retry",
  async ({ answer, events, bodies }) => {
    const body = String(bodies["text/event-stream"]?.join(""));
    expect(await sent(logOf(answer, events))).toBe(body.replace(preamble(1000), preamble(RETRY_MS)));
  },
);

test.each(MERGING)("$name is merged as the vector says", ({ events, merged }) => {
  expect(merge(events)).toEqual(merged);
});

test("event_ids_are_read_as_the_vectors_say", () => {
  for (const { event_id, answer, seq } of EVENT_IDS.valid) {
    expect(parseEventId(event_id)).toEqual({ answer, seq });
  }
  for (const { event_id, why } of EVENT_IDS.invalid) {
    expect(parseEventId(event_id), why).toBeNull();
  }
});

// The fake serves no repeated question, and knows its answers before it looks for a place in one.
const PLACES = RESUMING.cases.filter(({ target }) => target.startsWith(`/answers/${RESUMING.answer}`));

test.each(PLACES)("$name begins where the vector says", async ({ log, target, headers, ...expected }) => {
  const events = RESUMING.logs[log] ?? [];
  const query = new URL(target, "http://test").searchParams;
  const place = placeIn(logOf(RESUMING.answer, events), headers["Last-Event-ID"], query);
  if ("error" in place) {
    expect([SENT[place.error]?.status, place.error]).toEqual([expected.status, expected.code]);
  } else if ("status" in place) {
    expect(place.status).toBe(expected.status);
  } else {
    expect([200, place.after + 1]).toEqual([expected.status, expected.first_seq]);
  }
});

describe("its_errors", () => {
  test.each(Object.entries(SENT))("%s is as it comes as a response", (code, { status, message }) => {
    const row = ERRORS.find(
      (each) => each.code === code && each.sources.some((source) => source !== "answer"),
    );
    expect(row?.status).toBe(status);
    expect(row?.sentences.some((sentence) => says(sentence, message))).toBe(true);
    expect(errorBody(code, "r").error).toMatchObject({ code, message, request_id: "r" });
  });

  test("of_answers_are_in_the_table_with_their_sentences_and_retries", () => {
    const events = Object.values(BEHAVIOURS).flatMap(({ instead = {} }) => Object.values(instead));
    const failed = events.filter(({ type }) => type === "failed");
    expect(failed).not.toHaveLength(0);
    for (const { code, message, retryable } of failed) {
      const row = ERRORS.find((each) => each.code === code && each.sources.includes("answer"));
      expect(row?.sentences).toContain(message);
      expect(row?.retryable).toBe(retryable);
    }
  });
});

/**
 * Whether a message is the sentence with values in place of its `{…}`.
 *
 * @param {string} sentence
 * @param {string} message
 */
function says(sentence, message) {
  const literally = sentence.split(/\{\w+\}/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${literally.join(".*")}$`, "u").test(message);
}
