// @ts-nocheck -- the example is plain JavaScript, made a module here
import { expect, inject, test } from "vitest";
import documentation from "../../../docs/client.md?raw";
import * as folyam from "./index.js";

const [, example] = /```js\n([^]*?)```/.exec(documentation);

/** The example's own lines, as a function instead of a module. */
const ask = new Function(
  "openAnswer",
  `${example.replace(/^import .*$/m, "").replace("export async function ask", "return async function ask")}`,
)(folyam.openAnswer);

test("the_documentations_example_has_twenty_lines", () => {
  expect(example.trim().split("\n").length).toBeLessThanOrEqual(20);
});

test("the_documentations_example_shows_an_answer_through_trouble", async () => {
  let shown = "";
  const state = await ask(`${inject("server")}/drops-midway/`, `example ${crypto.randomUUID()}`, (text) => {
    shown += text;
  });
  expect(state.phase).toBe("done");
  expect(shown.replace(/\n\[.*?\]\n/g, "")).toBe(state.text);
  expect(shown).toContain("[reconnecting, waiting for the retry]");
});

test("the_documentations_example_says_why_an_answer_failed_or_was_refused", async () => {
  let shown = "";
  const show = (text) => {
    shown += text;
  };
  await ask(`${inject("server")}/says-failed/`, `example ${crypto.randomUUID()}`, show);
  expect(shown).toContain("[failed: The model's server stopped sending in the middle of its answer.]");
  await ask(`${inject("server")}/refuses/`, `example ${crypto.randomUUID()}`, show);
  expect(shown).toContain("[empty_query: query must not be empty.");
});

test("every_name_in_the_documentations_tables_exists", () => {
  const answer = folyam.openAnswer({ query: "?" }, { url: "http://127.0.0.1:9/", share: false });
  for (const name of ["state", "subscribe", "finished", "stop", "abort"]) {
    expect(documentation).toContain(`answer.${name}`);
    expect(answer).toHaveProperty(name);
  }
  for (const name of Object.keys(answer.state).filter((field) => field !== "restartedAt")) {
    expect(documentation).toContain(`\`${name}\``);
  }
  for (const name of Object.keys(folyam.PATIENCE)) {
    expect(documentation).toContain(`\`${name}\``);
  }
  answer.abort();
});
