import { expect, inject, test } from "vitest";
import { BEHAVIOURS } from "./behaviours.js";
import { errorBody } from "./errors.js";
import { Log } from "./log.js";
import { merge } from "./rendering.js";

// What the fake service sends over its socket. test/vectors.test.js holds its bytes.

const ID = "a1501e6e03f602a82dfe666c812b0c70";
const server = inject("server");

test("an_error_has_the_protocols_form", async () => {
  const response = await fetch(`${server}/refuses/generate`, { method: "POST", body: '{"query": ""}' });
  const requestId = String(response.headers.get("X-Request-Id"));
  expect(requestId).toMatch(/^[0-9a-f]{16}$/);
  expect([response.status, await response.json()]).toEqual([422, errorBody("empty_query", requestId)]);
  expect(errorBody("empty_query", "r")).toEqual({
    error: {
      message: "query must not be empty.",
      type: "invalid_request_error",
      param: "query",
      code: "empty_query",
      field: "query",
      request_id: "r",
    },
  });
});

test("a_log_has_the_protocols_events", () => {
  const log = new Log({ chunks: 1, paceMs: 0 });
  expect(log.id).toMatch(/^[0-9a-f]{32}$/);
  expect(log.events(1, log.last).map((event) => Object.keys(event).join(" "))).toEqual([
    "type seq answer model",
    "type seq text",
    "type seq finish_reason usage timing",
  ]);
  const running = new Log({ chunks: 1, paceMs: 60_000 });
  running.stop();
  expect(running.event(running.last)).toEqual({
    type: "stopped",
    seq: 2,
    by: "user",
    usage: null,
    usage_complete: false,
    timing: { first_chunk_seconds: 0.01, duration_seconds: 0.1 },
  });
  expect(running.whole()).toMatchObject({
    state: "stopped",
    usage: null,
    usage_complete: false,
    timing: { duration_seconds: 0.1 },
    last_seq: 2,
  });
});

test("numbers_go_on_from_higher_ones_where_an_answer_is_taken_over", () => {
  const log = new Log({ chunks: 5, paceMs: 0, takeOvers: { 3: 1000, 5: Number.MAX_SAFE_INTEGER - 2 } });
  const max = Number.MAX_SAFE_INTEGER;
  const seqs = [1, 2, 1000, 1001, max - 2, max - 1, max];
  expect(log.events(1, log.last).map(({ seq }) => seq)).toEqual(seqs);
  expect(seqs.map((seq) => log.placeOf(seq))).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect([0, 57, 2000].map((seq) => log.placeOf(seq))).toEqual([0, 2, 4]);
});

test("neighbouring_deltas_of_one_voice_are_merged_under_the_last_seq", () => {
  const log = new Log({ ...BEHAVIOURS["merges-all-voices"], paceMs: 0 });
  const merged = merge(log.events(1, log.last));
  expect(merged.map(({ seq }) => seq)).toEqual([1, 3, 5, 6, 8, 9, 10]);
  expect(
    merged.every((event) => ["text", "reasoning", "refusal"].filter((voice) => voice in event).length < 2),
  ).toBe(true);
});

test("a_stream_has_the_protocols_headers", async () => {
  const query = { method: "POST", body: '{"query": "headers"}' };
  const response = await fetch(`${server}/whole/generate`, query);
  const id = String(response.headers.get("X-Answer-Id"));
  expect(id).toMatch(/^[0-9a-f]{32}$/);
  expect(Object.fromEntries(response.headers)).toMatchObject({
    "content-type": "text/event-stream",
    location: `/answers/${id}`,
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  });
  const text = await response.text();
  expect(text).toMatch(/^retry: \d+\nevent: start\n/);
  expect(text.endsWith(`id: ${id}:22\n\n`)).toBe(true);
});

test("an_event_id_that_is_malformed_or_of_another_answer_is_an_error", async () => {
  const query = { method: "POST", body: '{"query": "ids"}' };
  const response = await fetch(`${server}/endless/generate`, query);
  const id = String(response.headers.get("X-Answer-Id"));
  await response.body?.cancel();
  for (const lastEventId of [`${ID}:1`, `${id}:01`, `${id}`, `${id}:9999999`]) {
    const headers = { "Last-Event-ID": lastEventId };
    const { status } = await fetch(`${server}/endless/answers/${id}`, { headers });
    expect([lastEventId, status]).toEqual([lastEventId, 400]);
  }
});
