import { describe, expect, test } from "vitest";
import { ANSWERS, LATER_VERSIONS, MERGING, RESPONSE_ERRORS } from "../../test/vectors.js";
import { createDecoder } from "./decoder.js";
import { parseEvent } from "./events.js";
import { createHistory } from "./history.js";
import { responseError } from "./response.js";
import { after, FIRST_STATE } from "./state.js";

// The library reads what docs/protocol/*.json says that a service sends.

/** @import { AnswerEvent } from "./events.js" */
/** @import { VectorEvent } from "../../test/vectors.js" */

/** @param {Uint8Array[]} pieces */
function decode(...pieces) {
  /** @type {(AnswerEvent | null)[]} */
  const events = [];
  /** @type {(string | undefined)[]} */
  const ids = [];
  /** @type {number[]} */
  const retries = [];
  const decoder = createDecoder({
    onMessage(data, id) {
      events.push(parseEvent(data));
      ids.push(id);
    },
    onRetry: (ms) => retries.push(ms),
  });
  pieces.forEach(decoder.feed);
  return { events, ids, retries };
}

/** @param {readonly object[]} events */
const stateAfter = (events) => /** @type {AnswerEvent[]} */ (events).reduce(after, FIRST_STATE);

/** @param {Readonly<import("./state.js").AnswerState>} state */
function readingOf({ id, text, toolCalls, seq, end }) {
  return {
    id,
    state: end?.type ?? "running",
    text,
    ...(toolCalls.length > 0 && { tool_calls: toolCalls }),
    last_seq: seq,
    usage: end?.usage ?? null,
    ...(end?.usage_complete !== undefined && { usage_complete: end.usage_complete }),
    timing: end?.timing ?? null,
  };
}

/** @param {string[] | undefined} lines */
const bytesOf = (lines) => new TextEncoder().encode(lines?.join(""));

describe.each(ANSWERS)("$name", ({ answer, events, bodies, reading, reasoning }) => {
  const bytes = bytesOf(bodies["text/event-stream"]);
  const seen = { events, ids: events.map(({ seq }) => `${answer}:${seq}`), retries: [1000] };

  test("is_decoded_into_its_events_and_their_ids", () => {
    expect(decode(bytes)).toEqual(seen);
  });

  test("is_decoded_the_same_in_two_pieces_cut_at_any_byte", () => {
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      expect(decode(bytes.subarray(0, cut), bytes.subarray(cut)), `cut at ${cut}`).toEqual(seen);
    }
  });

  test("is_decoded_the_same_byte_by_byte", () => {
    expect(decode(...Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(seen);
  });

  test("gives_exactly_the_events_that_have_ended_where_it_is_cut", () => {
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      const ended = new TextDecoder().decode(bytes.subarray(0, cut)).split("\n\n").length - 1;
      expect(decode(bytes.subarray(0, cut)).events, `cut at ${cut}`).toEqual(events.slice(0, ended));
    }
  });

  test("leads_to_its_state", () => {
    const state = stateAfter(decode(bytes).events.filter((event) => event !== null));
    expect(readingOf(state)).toEqual(reading);
    expect(state).toMatchObject({
      reasoning,
      model: "model-1",
      following: reading.state === "running",
      restartedAt: events.findLast(({ type }) => type === "restart")?.seq ?? 0,
    });
    const { type, code, message, retryable } = /** @type {VectorEvent} */ (events.at(-1));
    expect(state.failure).toEqual(
      type === "failed" ? { code, message, retryable, of: "answer", retryAfterMs: null } : null,
    );
  });
});

test.each(MERGING)("$name is one answer, merged or not", ({ events, merged }) => {
  expect(stateAfter(merged)).toEqual(stateAfter(events));
  expect(historyOf(merged)).toEqual(historyOf(events));
});

/** @param {readonly VectorEvent[]} events */
function historyOf(events) {
  const history = createHistory();
  /** @type {AnswerEvent[]} */ (/** @type {unknown} */ (events)).forEach(history.push);
  return history.events(stateAfter(events));
}

test.each(LATER_VERSIONS)("$name of a later version is passed over", ({ events, passed_on, reading }) => {
  for (const sent of [events, passed_on]) {
    const parsed = sent.map((event) => parseEvent(JSON.stringify(event)));
    expect(parsed).toEqual(sent);
    expect(readingOf(stateAfter(sent))).toEqual(reading);
  }
});

describe("the table says whether a retry may help after", () => {
  test.each(RESPONSE_ERRORS)("$code of $sources", async (row) => {
    // A code whose status varies is tried with one that, on its own, would be worth another try.
    const response = Response.json(
      { error: { code: row.code, message: row.sentences[0], request_id: "r" } },
      { status: row.status ?? 500 },
    );
    expect(await responseError(response)).toMatchObject({
      code: row.code,
      message: row.sentences[0],
      retryable: row.retryable,
    });
  });
});

test("a_code_of_a_later_version_leaves_it_to_the_status_whether_a_retry_may_help", async () => {
  const errorOf = (/** @type {number} */ status) =>
    responseError(Response.json({ error: { code: "weather", message: "It rains." } }, { status }));
  expect(await errorOf(503)).toMatchObject({ code: "weather", retryable: true });
  expect(await errorOf(422)).toMatchObject({ code: "weather", retryable: false });
});
