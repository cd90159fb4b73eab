import { expect, test } from "vitest";
import { createQueues } from "./event-queue.js";

/** @import { AnswerEvent } from "./events.js" */

/** @param {number} seq @param {string} text @returns {AnswerEvent} */
const delta = (seq, text) => ({ seq, type: "delta", text });

/** @param {AsyncIterator<AnswerEvent>} iterator */
async function rest(iterator) {
  const events = [];
  for await (const event of { [Symbol.asyncIterator]: () => iterator }) {
    events.push(event);
  }
  return events;
}

test("a_loop_gets_the_events_so_far_and_then_the_new_ones", async () => {
  const queues = createQueues();
  const iterator = queues.open([{ seq: 1, type: "start", answer: "a", model: "m" }]);
  expect(await iterator.next()).toMatchObject({ value: { type: "start" } });
  const next = iterator.next();
  queues.push(delta(2, "a"));
  expect(await next).toEqual({ done: false, value: delta(2, "a") });
});

test("neighbouring_deltas_that_wait_become_one_under_the_last_seq", async () => {
  const queues = createQueues();
  const iterator = queues.open([]);
  queues.push(delta(2, "a"));
  queues.push(delta(3, "b"));
  queues.push({ seq: 4, type: "restart" });
  queues.push(delta(5, "c"));
  queues.close(null);
  expect(await rest(iterator)).toEqual([delta(3, "ab"), { seq: 4, type: "restart" }, delta(5, "c")]);
});

test("deltas_that_wait_are_merged_only_with_those_of_their_voice", async () => {
  const queues = createQueues();
  const iterator = queues.open([]);
  queues.push({ seq: 2, type: "delta", reasoning: "Hm" });
  queues.push({ seq: 3, type: "delta", reasoning: "." });
  queues.push(delta(4, "a"));
  queues.push({ seq: 5, type: "delta", refusal: "I can" });
  queues.push({ seq: 6, type: "delta", refusal: "not." });
  queues.push({ seq: 7, type: "delta", reasoning: "Or" });
  queues.close(null);
  expect(await rest(iterator)).toEqual([
    { seq: 3, type: "delta", reasoning: "Hm." },
    delta(4, "a"),
    { seq: 6, type: "delta", refusal: "I cannot." },
    { seq: 7, type: "delta", reasoning: "Or" },
  ]);
});

test("an_error_is_thrown_once_after_the_last_event", async () => {
  const queues = createQueues();
  const iterator = queues.open([delta(2, "a")]);
  queues.close(new Error("enough"));
  expect(await iterator.next()).toMatchObject({ done: false });
  await expect(iterator.next()).rejects.toThrow("enough");
  expect(await iterator.next()).toEqual({ done: true, value: undefined });
});

test("a_loop_that_is_opened_after_the_end_ends", async () => {
  const queues = createQueues();
  queues.close(null);
  expect(await rest(queues.open([delta(2, "a")]))).toEqual([delta(2, "a")]);
});

test("a_loop_that_was_left_gets_nothing_more", async () => {
  const queues = createQueues();
  const iterator = queues.open([delta(2, "a")]);
  await iterator.return?.();
  queues.push(delta(3, "b"));
  expect(await iterator.next()).toEqual({ done: true, value: undefined });
});
