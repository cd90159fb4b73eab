import { expect, test } from "vitest";
import { createHistory, missingEvents } from "./history.js";
import { FIRST_STATE, after } from "./state.js";

/** @import { AnswerEvent } from "./events.js" */

/** @type {AnswerEvent[]} */
const LOG = [
  { seq: 1, type: "start", answer: "a", model: "m" },
  { seq: 2, type: "delta", reasoning: "Well. " },
  { seq: 3, type: "delta", text: "One " },
  { seq: 4, type: "restart" },
  { seq: 5, type: "delta", reasoning: "Again. " },
  { seq: 6, type: "delta", reasoning: "Hm. " },
  { seq: 7, type: "delta", text: "Two " },
  { seq: 8, type: "delta", text: "three." },
  { seq: 9, type: "delta", reasoning: "Or not. " },
  { seq: 10, type: "delta", refusal: "I " },
  { seq: 11, type: "delta", refusal: "will not." },
  { seq: 12, type: "delta", text: "Four." },
  { seq: 13, type: "delta", tool_call: { index: 0, id: "a", name: "weather", arguments: "" } },
  { seq: 14, type: "delta", tool_call: { index: 0, arguments: '{"city":' } },
  { seq: 15, type: "delta", tool_call: { index: 1, id: "b", name: "time", arguments: "{" } },
  { seq: 16, type: "delta", tool_call: { index: 0, arguments: '"Gy' } },
  { seq: 17, type: "delta", tool_call: { index: 0, arguments: 'őr"}' } },
  { seq: 18, type: "delta", tool_call: { index: 1, arguments: "}" } },
  { seq: 19, type: "delta", tool_call: { index: 2, id: "c", name: "time", arguments: "{}" } },
  { seq: 20, type: "done", finish_reason: "stop", usage: { completion_tokens: 3 }, timing: null },
];

/** The history and the state after so many events. @param {number} count */
function at(count) {
  const history = createHistory();
  let state = FIRST_STATE;
  for (const event of LOG.slice(0, count)) {
    history.push(event);
    state = after(state, event);
  }
  return { events: history.events(state), state };
}

test("neighbouring_deltas_are_merged_only_in_one_voice_and_in_their_order", () => {
  expect(at(20).events).toEqual([
    LOG[0],
    LOG[3],
    { seq: 6, type: "delta", reasoning: "Again. Hm. " },
    { seq: 8, type: "delta", text: "Two three." },
    LOG[8],
    { seq: 11, type: "delta", refusal: "I will not." },
    LOG[11],
    { seq: 14, type: "delta", tool_call: { index: 0, id: "a", name: "weather", arguments: '{"city":' } },
    LOG[14],
    { seq: 17, type: "delta", tool_call: { index: 0, arguments: '"Győr"}' } },
    LOG[17],
    LOG[18],
    LOG[19],
  ]);
});

test("the_events_missing_between_any_two_moments_lead_from_one_to_the_other", () => {
  for (let from = 0; from <= LOG.length; from += 1) {
    for (let to = from; to <= LOG.length; to += 1) {
      const start = at(from);
      let { state } = start;
      for (const event of missingEvents(start.events, state.seq, at(to).events)) {
        expect(event.seq).toBeGreaterThan(state.seq);
        state = after(state, event);
      }
      expect(state).toEqual(at(to).state);
    }
  }
});

test("nothing_is_missing_in_the_later_of_two_histories", () => {
  expect(missingEvents(at(9).events, 9, at(3).events)).toEqual([]);
});

test("a_delta_in_a_voice_of_a_later_version_is_passed_on_as_it_is", () => {
  const history = createHistory();
  const tool = /** @type {AnswerEvent} */ ({ seq: 3, type: "delta", song: [] });
  const another = /** @type {AnswerEvent} */ ({ seq: 4, type: "delta", song: [] });
  [{ seq: 2, type: /** @type {const} */ ("delta"), text: "a" }, tool, another].forEach(history.push);
  expect(history.events({ text: "a", reasoning: "", toolCalls: [] })).toEqual([
    { seq: 2, type: "delta", text: "a" },
    tool,
    another,
  ]);
});
