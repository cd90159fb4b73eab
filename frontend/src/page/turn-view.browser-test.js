import { expect, test, vi } from "vitest";
import { FIRST_STATE } from "../client/state.js";
import { createAnswerBody } from "./answer-body.js";
import { rendererLoaded } from "./answer-text.js";
import { createTurnActions } from "./turn-actions.js";
import { createTurnStatus } from "./turn-status.js";
import { createTurnView } from "./turn-view.js";
import { relabel, switchLanguage } from "./words.js";

/** @import { AnswerState } from "../client/state.js" */
/** @import { Turn } from "./conversations.js" */

/** @param {Partial<AnswerState>} change @returns {AnswerState} */
const stateWith = (change) => ({ ...FIRST_STATE, ...change });

/** @type {Turn} */
const TURN = { id: "t", question: "Why?", askedAt: 0, answer: "a", kept: null };

const LOST = stateWith({
  phase: "failed",
  following: false,
  text: "Half",
  failure: { code: "offline", message: "", retryable: true, of: "connection", retryAfterMs: null },
});

/** @param {Partial<Turn>} change @param {AnswerState} state */
function shownActions(change, state) {
  const nothing = () => {};
  const actions = { onRetry: nothing, onGoOn: nothing, link: () => "#a", text: () => state.text };
  const { element, show } = createTurnActions({ ...TURN, ...change }, actions);
  show(state);
  return element.hidden
    ? null
    : [...element.querySelectorAll("button:not([hidden])")].map((b) => b.textContent);
}

test("an_answer_that_is_followed_has_no_actions", () => {
  expect(shownActions({}, stateWith({ phase: "streaming", text: "Half" }))).toBeNull();
});

test("an_answer_whose_following_was_lost_can_be_gone_on_with", () => {
  expect(shownActions({}, LOST)).toEqual(["Go on", "Copy answer", "Copy link", "Ask again"]);
});

test("what_helps_after_a_failure_is_the_first_and_the_only_prominent_button", () => {
  const nothing = () => {};
  const actions = { onRetry: nothing, onGoOn: nothing, link: () => "#a", text: () => "Half" };
  const { element, show } = createTurnActions(TURN, actions);
  const prominent = () => [...element.querySelectorAll("button:not(.quiet)")].map((b) => b.textContent);
  const first = () => element.querySelector("button:not([hidden])")?.textContent;
  const failed = { code: "upstream_cut", message: "", retryable: true, retryAfterMs: null };
  show(stateWith({ ...LOST, failure: { ...failed, of: "answer" } }));
  expect([prominent(), first()]).toEqual([["Ask again"], "Ask again"]);
  show(LOST);
  expect([prominent(), first()]).toEqual([["Go on"], "Go on"]);
  show(stateWith({ phase: "done", following: false, text: "Whole" }));
  expect(prominent()).toEqual([]);
});

test("what_an_answer_lacks_cannot_be_done", () => {
  expect(shownActions({ answer: null }, { ...LOST, text: "" })).toEqual(["Ask again"]);
  expect(shownActions({ question: "" }, { ...LOST, failure: null })).toEqual(["Copy answer", "Copy link"]);
});

test("the_status_counts_the_seconds_until_the_end_and_then_shows_the_figures", () => {
  vi.useFakeTimers({ now: 10_000 });
  const { status, figures, show, tickWhile, stop } = createTurnStatus({ askedAt: 8000 });
  const running = stateWith({ phase: "waiting" });
  show(running);
  expect(status.textContent).toBe("Waiting for the first words …2 s");
  expect(figures.hidden).toBe(true);
  tickWhile(() => running);
  vi.advanceTimersByTime(3000);
  expect(status.textContent).toBe("Waiting for the first words …5 s");
  stop();
  vi.advanceTimersByTime(3000);
  expect(status.textContent).toBe("Waiting for the first words …5 s");
  const timing = { first_chunk_seconds: 1, duration_seconds: 3 };
  show(
    stateWith({
      phase: "done",
      following: false,
      text: "Words",
      end: { seq: 3, type: "done", finish_reason: "stop", timing },
    }),
  );
  expect(status.hidden).toBe(true);
  expect(figures.textContent).toBe("first words after 1.00 s · 3.0 s in all");
  vi.useRealTimers();
});

test("a_stopped_answers_figures_have_the_tokens_as_at_least_so_many", () => {
  const { figures, show } = createTurnStatus({ askedAt: 8000 });
  const timing = { first_chunk_seconds: 1, duration_seconds: 3 };
  for (const [complete, tokens] of [
    [true, "2 tokens · 1 tokens/s"],
    [false, "at least 2 tokens"],
  ]) {
    const told = { usage: { completion_tokens: 2 }, usage_complete: Boolean(complete), timing };
    show(
      stateWith({
        phase: "stopped",
        following: false,
        end: { seq: 3, type: "stopped", by: "user", ...told },
      }),
    );
    expect(figures.textContent).toBe(`first words after 1.00 s · 3.0 s in all · ${tokens}`);
  }
});

test("what_was_shown_stays_until_the_new_text_has_begun", async () => {
  await rendererLoaded;
  const body = createAnswerBody();
  body.draw(stateWith({ phase: "streaming", text: "Old", reasoning: "Hm." }));
  body.draw(stateWith({ phase: "waiting", restartedAt: 4 }));
  expect([body.text.textContent, body.reasoning.textContent]).toEqual(["Old", "ReasoningHm."]);
  body.draw(stateWith({ phase: "streaming", restartedAt: 4, text: "New" }));
  expect([body.text.textContent, body.reasoning.textContent]).toEqual(["New", "Reasoning"]);
});

test("calls_of_tools_are_folded_away_behind_their_names_and_grow", () => {
  const body = createAnswerBody();
  expect(body.toolCalls.hidden).toBe(true);
  const weather = { index: 0, id: "a", name: "weather", arguments: '{"city":' };
  body.draw(stateWith({ phase: "streaming", toolCalls: [weather] }));
  const time = { index: 1, id: "b", name: "time", arguments: "" };
  body.draw(
    stateWith({ phase: "streaming", toolCalls: [{ ...weather, arguments: '{"city":"<b>Győr"}' }, time] }),
  );
  expect(body.toolCalls.hidden).toBe(false);
  const folds = [...body.toolCalls.querySelectorAll("details")];
  expect(folds.map(({ open }) => open)).toEqual([false, false]);
  expect(folds.map((each) => each.querySelector("summary")?.textContent)).toEqual([
    "Tool call: weather",
    "Tool call: time",
  ]);
  expect(folds.map((each) => each.querySelector("pre")?.textContent)).toEqual(['{"city":"<b>Győr"}', ""]);
  body.draw(stateWith({ phase: "waiting", restartedAt: 4 }));
  expect(body.toolCalls.textContent).toContain("weather");
  body.draw(stateWith({ phase: "streaming", restartedAt: 4, toolCalls: [time] }));
  expect(body.toolCalls.textContent).toBe("Tool call: time");
});

test("a_call_of_a_tool_is_told_in_the_readers_language", async () => {
  const body = createAnswerBody();
  document.body.append(body.toolCalls);
  body.draw(stateWith({ phase: "done", toolCalls: [{ index: 0, id: "a", name: "time", arguments: "{}" }] }));
  const summary = body.toolCalls.querySelector("summary");
  await switchLanguage();
  relabel(document);
  expect(summary?.textContent).toBe("Eszközhívás: time");
  await switchLanguage();
  relabel(document);
  expect(summary?.textContent).toBe("Tool call: time");
  body.toolCalls.remove();
});

test("a_turn_shows_what_was_kept_of_it", async () => {
  await rendererLoaded;
  const toolCalls = [{ index: 0, id: "a", name: "time", arguments: "{}" }];
  const kept = {
    phase: LOST.phase,
    text: "Half",
    reasoning: "",
    toolCalls,
    end: null,
    failure: LOST.failure,
  };
  const nothing = () => {};
  const actions = { onRetry: nothing, onGoOn: nothing, onGrown: nothing, link: () => "#a" };
  const { element } = createTurnView({ ...TURN, kept }, actions);
  expect(element.querySelector("h2")?.textContent).toBe("Why?");
  expect(element.querySelector(".markdown")?.textContent).toBe("Half");
  expect(element.querySelector(".tool-call")?.textContent).toBe("Tool call: time{}");
  expect(element.querySelector(".status")?.textContent).toContain("you were offline for too long.");
});

test("a_screen_reader_hears_how_an_answer_ended", () => {
  const region = document.createElement("p");
  region.id = "announcer";
  document.body.append(region);
  const nothing = () => {};
  const actions = { onRetry: nothing, onGoOn: nothing, onGrown: nothing, link: () => "#a" };
  /** @param {string} reason @param {string} text */
  const heard = (reason, text) => {
    const view = createTurnView(TURN, actions);
    const end = { seq: 3, type: /** @type {const} */ ("done"), finish_reason: reason };
    view.show(stateWith({ phase: "done", following: false, text, end }));
    return region.textContent;
  };
  expect(heard("stop", "Words")).toBe("The answer is complete.");
  expect(heard("length", "Words")).toBe("The answer reached its greatest length.");
  expect(heard("stop", "")).toBe("The model said nothing.");
  region.remove();
});
