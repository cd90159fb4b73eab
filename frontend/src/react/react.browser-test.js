import { createElement, StrictMode, useEffect } from "react";
import { createRoot } from "react-dom/client";
import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { useAnswer } from "./index.js";

/** @import { UsedAnswer, UseAnswerOptions } from "./index.js" */

const server = inject("server");

/** @type {import("react-dom/client").Root} */
let root;

beforeEach(() => {
  root = createRoot(document.createElement("div"));
});
afterEach(() => root.unmount());

/**
 * Renders a component that uses the hook; returns what the hook returned last, and the states that were rendered.
 *
 * @param {string} behaviour
 * @param {UseAnswerOptions} [options]
 */
async function mounted(behaviour, options = {}) {
  const seen = { used: /** @type {UsedAnswer} */ (/** @type {unknown} */ (null)), states: [""] };
  const Component = () => {
    const used = useAnswer({ url: `${server}/${behaviour}/`, share: false, ...options });
    useEffect(() => {
      seen.used = used;
    });
    seen.states.push(used.state?.text ?? "");
    return null;
  };
  root.render(createElement(StrictMode, null, createElement(Component)));
  await expect.poll(() => seen.used).not.toBe(null);
  return seen;
}

/** @param {string} behaviour */
function question(behaviour) {
  return `${behaviour} ${crypto.randomUUID()}`;
}

/** @param {string} run */
async function report(run) {
  return (await fetch(`${server}/report?run=${encodeURIComponent(run)}`)).json();
}

test("a_component_shows_an_answer_as_it_comes_and_asks_once_in_strict_mode", async () => {
  const seen = await mounted("drops-midway");
  expect(seen.used.state).toBe(null);
  const query = question("react");
  seen.used.ask({ query });
  await expect.poll(() => seen.used.state?.phase).toBe("done");
  expect(seen.states.at(-1)).toBe(seen.used.state?.text);
  expect(new Set(seen.states).size).toBeGreaterThan(1);
  const { answers } = await report(query);
  expect(answers).toHaveLength(1);
});

test("the_functions_stay_the_same", async () => {
  const seen = await mounted("whole");
  const { ask, stop } = seen.used;
  ask({ query: question("same") });
  await expect.poll(() => seen.used.state?.phase).toBe("done");
  expect(seen.used.ask).toBe(ask);
  expect(seen.used.stop).toBe(stop);
});

test("a_component_that_goes_stops_following_and_the_answer_goes_on", async () => {
  const seen = await mounted("endless");
  const answer = seen.used.ask({ query: question("gone") });
  await expect.poll(() => seen.used.state?.phase).toBe("streaming");
  root.unmount();
  expect((await answer.finished).following).toBe(false);
  expect(answer.state.phase).not.toBe("stopped");
});

test("or_stops_the_answer_if_it_is_told_to", async () => {
  const seen = await mounted("endless", { leaving: "stop" });
  const answer = seen.used.ask({ query: question("stopped") });
  await expect.poll(() => seen.used.state?.phase).toBe("streaming");
  root.unmount();
  expect((await answer.finished).phase).toBe("stopped");
});

test("another_question_leaves_the_answer_before_it", async () => {
  const seen = await mounted("endless");
  const first = seen.used.ask({ query: question("first") });
  await expect.poll(() => seen.used.state?.phase).toBe("streaming");
  const second = seen.used.ask({ query: question("second") });
  expect((await first.finished).following).toBe(false);
  await expect.poll(() => seen.used.state?.id).toBe(second.state.id);
  await seen.used.stop();
  expect((await second.finished).phase).toBe("stopped");
});
