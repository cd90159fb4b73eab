import { expect, test } from "vitest";
import { parseEvent } from "./events.js";
import { FIRST_STATE, after } from "./state.js";

/** @import { AnswerEvent } from "./events.js" */

/** @type {AnswerEvent[]} */
const LOG = [
  { seq: 1, type: "start", answer: "a", model: "m" },
  { seq: 2, type: "delta", reasoning: "Well. " },
  { seq: 3, type: "delta", text: "One " },
  { seq: 4, type: "restart" },
  { seq: 5, type: "delta", reasoning: "Again. " },
  { seq: 6, type: "delta", text: "Two " },
  { seq: 7, type: "delta", text: "three." },
  { seq: 8, type: "done", finish_reason: "stop", usage: { completion_tokens: 3 }, timing: null },
];

const STATES = [FIRST_STATE];
for (const event of LOG) {
  STATES.push(after(/** @type {typeof FIRST_STATE} */ (STATES.at(-1)), event));
}

test("events_add_up_to_the_state", () => {
  expect(STATES.at(-1)).toMatchObject({
    phase: "done",
    following: false,
    id: "a",
    model: "m",
    text: "Two three.",
    reasoning: "Again. ",
    end: { usage: { completion_tokens: 3 } },
  });
});

test("calls_of_tools_grow_by_their_index_and_a_restart_discards_them", () => {
  /** @type {AnswerEvent[]} */
  const log = [
    { seq: 1, type: "start", answer: "a", model: "m" },
    { seq: 2, type: "delta", tool_call: { index: 0, id: "a", name: "weather", arguments: '{"city":' } },
    { seq: 3, type: "delta", tool_call: { index: 1, id: "b", name: "time", arguments: "{}" } },
    { seq: 4, type: "delta", tool_call: { index: 0, arguments: '"Győr"}' } },
    { seq: 5, type: "restart" },
    { seq: 6, type: "delta", tool_call: { index: 0, id: "c", name: "time", arguments: "" } },
  ];
  const states = log.map((_, place) => log.slice(0, place + 1).reduce(after, FIRST_STATE));
  expect(states[1]?.toolCalls).toEqual([{ index: 0, id: "a", name: "weather", arguments: '{"city":' }]);
  expect(states[3]).toMatchObject({
    phase: "streaming",
    text: "",
    toolCalls: [
      { index: 0, id: "a", name: "weather", arguments: '{"city":"Győr"}' },
      { index: 1, id: "b", name: "time", arguments: "{}" },
    ],
  });
  expect(states[4]?.toolCalls).toEqual([]);
  expect(states[5]?.toolCalls).toEqual([{ index: 0, id: "c", name: "time", arguments: "" }]);
});

test("a_call_whose_beginning_was_not_seen_has_no_name", () => {
  const piece = { index: 0, arguments: "}" };
  const state = after({ ...FIRST_STATE, seq: 4 }, { seq: 5, type: "delta", tool_call: piece });
  expect(state.toolCalls).toEqual([{ index: 0, id: "", name: "", arguments: "}" }]);
});

test("a_refusal_is_part_of_the_text", () => {
  expect(after(FIRST_STATE, { seq: 1, type: "delta", refusal: "No." }).text).toBe("No.");
});

test("a_failed_event_is_a_failure_of_the_answer", () => {
  const failed = after(FIRST_STATE, { seq: 1, type: "failed", code: "c", message: "m", retryable: false });
  expect(failed).toMatchObject({ phase: "failed", failure: { code: "c", retryable: false, of: "answer" } });
});

test("what_is_not_an_event_is_none", () => {
  const others = [
    "",
    "null",
    "7",
    "[]",
    '{"seq": 1}',
    '{"seq": 0, "type": "delta"}',
    '{"seq": 1.5, "type": "delta"}',
  ];
  const broken = [
    '{"seq": 1, "type": "start"}',
    '{"seq": 2, "type": "delta", "text": 7}',
    '{"seq": 2, "type": "delta", "reasoning": {}}',
    '{"seq": 2, "type": "delta", "tool_call": 7}',
    '{"seq": 2, "type": "delta", "tool_call": {"index": 0}}',
    '{"seq": 2, "type": "delta", "tool_call": {"index": -1, "arguments": ""}}',
    '{"seq": 2, "type": "delta", "tool_call": {"index": 0, "name": 7, "arguments": ""}}',
    '{"seq": 2, "type": "failed"}',
    '{"seq": 2, "type": 7}',
    '{"seq": 2, "type": "de',
  ];
  for (const data of [...others, ...broken]) {
    expect(parseEvent(data), data).toBeNull();
  }
  expect(parseEvent('{"seq": 2, "type": "delta", "text": "x"}')).toEqual({
    seq: 2,
    type: "delta",
    text: "x",
  });
});
