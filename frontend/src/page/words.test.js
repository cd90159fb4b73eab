import { describe, expect, test } from "vitest";
import { ERRORS } from "../../test/vectors.js";
import { CLIENT_CODES } from "../client/errors.js";
import { ENGLISH } from "./english.js";
import { HUNGARIAN } from "./hungarian.js";

describe.each([
  ["English", ENGLISH],
  ["Hungarian", HUNGARIAN],
])("in %s", (_, { errors }) => {
  test("every_code_of_the_service_of_nginx_and_of_the_client_has_a_sentence_and_no_other", () => {
    const codes = new Set([...ERRORS.map(({ code }) => code), ...CLIENT_CODES]);
    expect(Object.keys(errors).sort()).toEqual([...codes].sort());
  });

  test("each_goes_on_with_a_sentence_that_has_begun", () => {
    for (const [code, sentence] of Object.entries(errors)) {
      expect(sentence, code).toMatch(/^\p{Ll}.*[.!]$/u);
    }
  });
});

test("both_languages_have_the_same_words_with_the_same_values", () => {
  const valuesOf = (/** @type {object} */ words) =>
    Object.entries(words).map(([name, word]) => [name, String(word).match(/\{\w+\}/g)]);
  expect(valuesOf(HUNGARIAN)).toEqual(valuesOf(ENGLISH));
});
