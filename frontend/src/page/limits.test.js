import { expect, test } from "vitest";
import { charactersIn, fitting, readLimits, USUAL } from "./limits.js";

/** @param {unknown} body @param {number} [status] */
const says =
  (body, status = 200) =>
  async () =>
    new Response(JSON.stringify(body), { status });

const TOLD = {
  models: ["one", "two"],
  query_characters: 5,
  history_turns: 4,
  body_bytes: 3000,
  system: true,
};
const LIMITS = { models: ["one", "two"], queryCharacters: 5, historyTurns: 4, bodyBytes: 3000 };

test("the_services_limits_are_read", async () => {
  expect(await readLimits(says(TOLD))).toEqual(LIMITS);
});

test.each([
  ["an error", says({ error: { code: "not_found" } }, 404)],
  ["limits in an error", says(TOLD, 503)],
  ["other numbers", says({ ...TOLD, body_bytes: "many" })],
  ["a list", says([])],
  ["nothing", says(null)],
  ["a page", async () => new Response("<h1>Hello</h1>")],
  ["no network", () => Promise.reject(new TypeError("Failed to fetch"))],
])("without_them_the_usual_ones_hold: %s", async (_, fetcher) => {
  expect(await readLimits(fetcher)).toEqual(USUAL);
});

test("characters_are_counted_as_the_service_does", () => {
  expect(charactersIn("árvíz 🌊")).toBe(7);
});

/** @param {number} pairs @param {number} [length] */
const history = (pairs, length = 1) =>
  Array.from({ length: 2 * pairs }, (_, index) => ({
    role: index % 2 ? "assistant" : "user",
    content: String(index).padEnd(length, "x"),
  }));

test("a_history_is_cut_to_the_last_turns_that_are_taken", () => {
  expect(fitting(history(1), "?", LIMITS)).toEqual(history(1));
  expect(fitting(history(5), "?", LIMITS)).toEqual(history(5).slice(-4));
  expect(fitting(history(5), "?", { ...LIMITS, historyTurns: 5 })).toEqual(history(5).slice(-4));
  expect(fitting(history(5), "?", { ...LIMITS, historyTurns: 1 })).toEqual([]);
});

test("and_to_the_bytes_that_are_taken", () => {
  const long = history(2, 700);
  expect(fitting(long, "?", LIMITS)).toEqual(long.slice(-2));
  expect(fitting(long, "?", { ...LIMITS, bodyBytes: 9000 })).toEqual(long);
  expect(fitting(long, "é".repeat(900), LIMITS)).toEqual([]);
});
