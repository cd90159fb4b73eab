import { afterEach, expect, inject, test } from "vitest";
import { openAnswer } from "../client/index.js";
import "./index.js";

/** @import { FolyamAnswer } from "./index.js" */

const server = inject("server");

afterEach(() => document.body.replaceChildren());

/** @param {string} behaviour @param {Record<string, string>} [attributes] */
function element(behaviour, attributes = {}) {
  const made = /** @type {FolyamAnswer} */ (document.createElement("folyam-answer"));
  made.setAttribute("url", `${server}/${behaviour}/`);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  document.body.append(made);
  return made;
}

/** @param {string} behaviour */
function question(behaviour) {
  return `${behaviour} ${crypto.randomUUID()}`;
}

test("it_shows_an_answer_and_tells_each_change", async () => {
  const shown = element("drops-midway");
  /** @type {(string | null)[]} */
  const phases = [];
  shown.addEventListener("change", () => phases.push(shown.getAttribute("phase")));
  shown.ask({ query: question("element") });
  await expect.poll(() => shown.getAttribute("phase")).toBe("done");
  await expect.poll(() => shown.textContent).toBe(shown.state?.text.trim());
  expect(phases).toContain("streaming");
  expect(shown.querySelector(".failure")).toHaveProperty("hidden", true);
});

test("it_follows_an_answer_by_its_id_and_goes_on_to_another", async () => {
  const [first, second] = await Promise.all(
    ["one", "two"].map(async () => {
      const options = { url: `${server}/whole/`, share: false };
      return openAnswer({ query: question("by id") }, options).finished;
    }),
  );
  const shown = element("whole", { answer: String(first?.id) });
  await expect.poll(() => shown.state?.phase).toBe("done");
  expect(shown.state?.id).toBe(first?.id);
  shown.setAttribute("answer", String(second?.id));
  await expect.poll(() => shown.state?.id).toBe(second?.id);
  await expect.poll(() => shown.textContent).toBe(second?.text.trim());
});

test("what_a_restart_took_back_is_not_shown", async () => {
  const shown = element("restarts");
  shown.ask({ query: question("restarts") });
  await expect.poll(() => shown.state?.phase).toBe("done");
  expect(shown.state?.restartedAt).toBeGreaterThan(0);
  await expect.poll(() => shown.textContent).toBe(shown.state?.text.trim());
});

test("it_says_why_an_answer_failed", async () => {
  const shown = element("says-failed");
  shown.ask({ query: question("failed") });
  await expect.poll(() => shown.getAttribute("phase")).toBe("failed");
  const failure = shown.querySelector("[role=alert]");
  expect(failure).toHaveProperty("hidden", false);
  await expect.poll(() => failure?.textContent).toBe(shown.state?.failure?.message);
});

test("an_element_that_is_removed_stops_following", async () => {
  const shown = element("endless");
  const answer = shown.ask({ query: question("removed") });
  await expect.poll(() => shown.state?.phase).toBe("streaming");
  shown.remove();
  const last = await answer.finished;
  expect(last.following).toBe(false);
  expect(last.phase).not.toBe("stopped");
});

test("it_can_stop_its_answer", async () => {
  const shown = element("endless");
  const answer = shown.ask({ query: question("stopped") });
  await expect.poll(() => shown.state?.phase).toBe("streaming");
  await shown.stop();
  expect((await answer.finished).phase).toBe("stopped");
});
