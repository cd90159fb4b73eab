import { afterEach, expect, test } from "vitest";
import { FIRST_STATE } from "../client/state.js";
import { sentenceOf } from "./status.js";
import { currentLanguage, switchLanguage } from "./words.js";

/** @param {string | null} reason @param {Partial<typeof FIRST_STATE>} [said] */
function ended(reason, said = { text: "Words" }) {
  return sentenceOf({
    ...FIRST_STATE,
    ...said,
    phase: "done",
    end: { seq: 3, type: "done", finish_reason: reason },
  });
}

afterEach(async () => {
  if (currentLanguage() !== "en") {
    await switchLanguage();
  }
});

test("an_answer_that_has_finished_needs_no_sentence", () => {
  expect([ended("stop"), ended("END_TURN"), ended(""), ended(null)]).toEqual(["", "", "", ""]);
});

test("a_cut_is_named_by_whatever_word_the_server_has_for_it", () => {
  expect(ended("MAX_TOKENS")).toBe("The answer reached its greatest length.");
  expect(ended("model_context_window_exceeded")).toBe("The answer reached its greatest length.");
  expect(ended("sensitive")).toBe("The model's provider withheld the rest.");
});

test("an_unknown_reason_is_shown", async () => {
  expect(ended("paused_for_tea")).toBe("The model gave this reason for the end: paused_for_tea");
  await switchLanguage();
  expect(ended("paused_for_tea")).toBe("A modell ezt az okot adta a befejezésre: paused_for_tea");
});

test("an_answer_without_a_word_says_so", async () => {
  expect(ended("stop", {})).toBe("The model said nothing.");
  expect(ended("length", {})).toBe("The model said nothing. The answer reached its greatest length.");
  expect(ended("stop", { reasoning: "Hm." })).toBe("");
  await switchLanguage();
  expect(ended("stop", {})).toBe("A modell nem mondott semmit.");
});
