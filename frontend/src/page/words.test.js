import { describe, expect, test } from "vitest";
import protocol from "../../../docs/protocol.md?raw";
import { CLIENT_CODES } from "../client/errors.js";
import { ENGLISH } from "./english.js";
import { HUNGARIAN } from "./hungarian.js";

/** The codes in a marked table of docs/protocol.md, which is held to the service's and nginx's own. @param {string} name */
function codesIn(name) {
  const table = protocol.split(`<!-- ${name} -->`)[1]?.split(`<!-- /${name} -->`)[0] ?? "";
  return Array.from(table.matchAll(/^\| `(\w+)`/gm), ([, code]) => String(code));
}

const SERVICE = codesIn("errors");
const NGINX = codesIn("nginx errors");

test("the_tables_of_codes_are_found", () => {
  expect(SERVICE).toContain("too_many_answers_of_yours");
  expect(NGINX).toContain("service_unreachable");
});

describe.each([
  ["English", ENGLISH],
  ["Hungarian", HUNGARIAN],
])("in %s", (_, { errors }) => {
  test("every_code_of_the_service_of_nginx_and_of_the_client_has_a_sentence_and_no_other", () => {
    expect(Object.keys(errors).sort()).toEqual([...new Set([...SERVICE, ...NGINX, ...CLIENT_CODES])].sort());
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
