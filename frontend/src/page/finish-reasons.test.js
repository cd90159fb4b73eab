import { expect, test } from "vitest";
import { FINISH_REASONS_VECTOR } from "../../test/vectors.js";
import { FINISH_REASONS, meaningOf } from "./finish-reasons.js";

test("the_page_knows_the_reasons_of_the_service", () => {
  const { failed, ...others } = FINISH_REASONS_VECTOR;
  expect(FINISH_REASONS).toEqual(others);
  expect(failed).toContain("error");
});

test("a_reason_has_one_meaning_in_either_case", () => {
  expect(["stop", "STOP", "", "MAX_TOKENS", "SAFETY", "OTHER", "__proto__"].map(meaningOf)).toEqual([
    "finished",
    "finished",
    "finished",
    "length",
    "filtered",
    "unknown",
    "unknown",
  ]);
});
