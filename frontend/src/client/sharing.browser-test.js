import { afterEach, expect, inject, test, vi } from "vitest";
import { openAnswer } from "./index.js";

const server = inject("server");

/** @type {import("./answer.js").Answer[]} */
const opened = [];

/**
 * Each answer has locks and channels of its own, so several in one page share as several tabs do.
 *
 * @param {import("./answer.js").Question | import("./answer.js").Resumption} request
 * @param {string} behaviour
 * @param {import("./answer.js").AnswerOptions} [options]
 */
function open(request, behaviour, options = {}) {
  const answer = openAnswer(request, { url: `${server}/${behaviour}/`, sliceMs: 100, ...options });
  opened.push(answer);
  return answer;
}

afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  for (const answer of opened.splice(0)) {
    answer.abort();
    await answer.finished;
  }
});

/** @param {string} run */
async function report(run) {
  return (await fetch(`${server}/report?run=${encodeURIComponent(run)}`)).json();
}

/** @param {import("./answer.js").Answer} answer @param {(state: import("./state.js").AnswerState) => boolean} condition */
function until(answer, condition) {
  return new Promise((resolve) => {
    const end = answer.subscribe((state) => {
      if (condition(state)) {
        end();
        resolve(state);
      }
    });
    if (condition(answer.state)) {
      end();
      resolve(answer.state);
    }
  });
}

test("eight_followers_of_one_answer_use_one_connection", async () => {
  const run = crypto.randomUUID();
  const first = open({ query: run }, "paced");
  const { id } = await until(first, ({ seq }) => seq > 5);
  const others = Array.from({ length: 7 }, () => open({ answer: id }, "paced"));
  const states = await Promise.all([first, ...others].map(({ finished }) => finished));
  const { answers } = await report(run);
  expect(states.map(({ text }) => text)).toEqual(Array(8).fill(answers[0].text));
  expect(states.map(({ phase }) => phase)).toEqual(Array(8).fill("done"));
  expect(answers[0]).toMatchObject({ connections: 1, mostOpen: 1 });
});

test("another_follower_leads_when_the_leader_leaves_and_nothing_is_lost", async () => {
  const run = crypto.randomUUID();
  const first = open({ query: run }, "endless");
  const { id } = await until(first, ({ seq }) => seq > 2);
  const second = open({ answer: id }, "endless");
  await until(second, ({ seq }) => seq > 2); // So that it is the next to lead, and not the third.
  const third = open({ answer: id }, "endless");
  /** @type {string[]} */
  const heard = [];
  const reading = (async () => {
    for await (const event of third) {
      heard.push(event.type === "delta" ? String(event.text) : "");
    }
  })();
  await Promise.all([second, third].map((answer) => until(answer, ({ seq }) => seq > 8)));
  const connections = async () => (await report(run)).answers[0].connections;
  first.abort();
  await expect.poll(connections, { timeout: 30_000 }).toBe(2); // The second leads, and has not only heard more meanwhile.
  second.abort();
  await expect.poll(connections, { timeout: 30_000 }).toBe(3);
  const { seq: left } = third.state;
  await until(third, ({ seq }) => seq > left + 8);
  await third.stop();
  await Promise.all([third.finished, reading]);
  const { answers } = await report(run);
  expect(third.state.text).toBe(answers[0].text);
  expect(heard.join("")).toBe(answers[0].text);
  expect(answers[0]).toMatchObject({ connections: 3, mostOpen: 1 });
});

test("the_leaders_trouble_shows_at_the_listeners", async () => {
  const patience = { retryMs: 20, maxRetryMs: 50, giveUpMs: 500 };
  const first = open({ query: crypto.randomUUID() }, "ends-for-ever", { patience });
  const { id } = await until(first, ({ id }) => id !== null);
  const second = open({ answer: id }, "ends-for-ever", { patience });
  await until(second, ({ phase }) => phase === "reconnecting");
  expect(await second.finished).toMatchObject({ phase: "failed", failure: { code: "unreachable" } });
});

test("a_leader_that_says_nothing_is_left_alone", async () => {
  const first = open({ query: crypto.randomUUID() }, "paced", { share: false });
  const { id } = await until(first, ({ seq }) => seq > 1);
  const name = `folyam 2 ${server}/paced/answers/${id}`;
  let thaw = () => {};
  const frozen = navigator.locks.request(
    name,
    () => new Promise((resolve) => (thaw = () => resolve(undefined))),
  );
  const second = open({ answer: id }, "paced", { patience: { silenceMs: 200 } });
  expect(await second.finished).toMatchObject({ phase: "done" });
  thaw();
  await frozen;
});

test("a_listener_that_missed_an_event_asks_for_the_whole_again", async () => {
  const first = open({ query: crypto.randomUUID() }, "endless", { share: false });
  const { id } = await until(first, ({ seq }) => seq > 1);
  const name = `folyam 2 ${server}/endless/answers/${id}`;
  let release = () => {};
  const held = navigator.locks.request(
    name,
    () => new Promise((resolve) => (release = () => resolve(undefined))),
  );
  const leader = new BroadcastChannel(name);
  let text = "one ";
  let seq = 2;
  let joins = 0;
  leader.onmessage = () => {
    joins += 1;
    const start = { seq: 1, type: "start", answer: id, model: "m" };
    const events = [start, { seq, type: "delta", text }];
    leader.postMessage({ type: "whole", events, phase: "streaming", waitingFor: null });
  };
  const second = open({ answer: id }, "endless");
  await until(second, (state) => state.text === "one ");
  [text, seq] = ["one two three ", 4];
  leader.postMessage({ type: "event", before: 3, event: { seq: 4, type: "delta", text: "three " } });
  await until(second, (state) => state.text === "one two three ");
  leader.postMessage({ type: "event", before: 3, event: { seq: 4, type: "delta", text: "three " } });
  leader.postMessage({ type: "event", before: 4, event: { seq: 5, type: "delta", text: "four" } });
  expect(await until(second, (state) => state.seq === 5)).toMatchObject({ text: "one two three four" });
  expect(joins).toBe(2);
  leader.close();
  release();
  await held;
});

test("a_listener_gets_each_voice_by_itself", async () => {
  const run = crypto.randomUUID();
  const first = open({ query: run }, "all-voices");
  const { id } = await until(first, ({ seq }) => seq > 3);
  const second = open({ answer: id }, "all-voices");
  const events = [];
  for await (const event of second) {
    events.push(event);
  }
  const voices = events.flatMap((event) =>
    ["text", "reasoning", "refusal"].filter((voice) => voice in event),
  );
  expect(voices.filter((voice, index) => voice !== voices[index - 1])).toEqual([
    "reasoning",
    "text",
    "reasoning",
    "refusal",
    "text",
  ]);
  expect(second.state.text).toBe(first.state.text);
  expect((await report(run)).answers[0]).toMatchObject({ connections: 1 });
});

test("who_already_knows_a_part_follows_without_the_others", async () => {
  const first = open({ query: crypto.randomUUID() }, "paced");
  const { id } = await until(first, ({ seq }) => seq > 8);
  const second = open({ answer: id, after: 3 }, "paced");
  expect((await second.finished).text).toMatch(/^ő3 ő4 /);
});

test("a_follower_can_stop_what_another_leads", async () => {
  const first = open({ query: crypto.randomUUID() }, "endless");
  const { id } = await until(first, ({ seq }) => seq > 2);
  const second = open({ answer: id }, "endless");
  await until(second, ({ seq }) => seq > 2);
  await second.stop();
  expect((await Promise.all([first.finished, second.finished])).map(({ phase }) => phase)).toEqual([
    "stopped",
    "stopped",
  ]);
});

test("a_listener_can_leave", async () => {
  const first = open({ query: crypto.randomUUID() }, "endless");
  const { id } = await until(first, ({ seq }) => seq > 2);
  const second = open({ answer: id }, "endless");
  await until(second, ({ seq }) => seq > 2);
  second.abort();
  expect(await second.finished).toMatchObject({ following: false, phase: "streaming" });
  expect(first.state.following).toBe(true);
});

test("eight_answers_over_four_connections_all_grow", async () => {
  const run = crypto.randomUUID();
  // None of them ends and leaves its connection to another.
  const answers = Array.from({ length: 8 }, () => open({ query: run }, "endless"));
  for (const least of [50, 100, 150, 200]) {
    await Promise.all(answers.map((answer) => until(answer, ({ seq }) => seq > least)));
  }
  const { answers: known } = await report(run);
  expect(known).toHaveLength(8);
});

test("a_follower_keeps_its_connection_while_no_other_waits_for_one", async () => {
  const run = crypto.randomUUID();
  const answers = Array.from({ length: 4 }, () => open({ query: run }, "paced", { sliceMs: 10 }));
  await Promise.all(answers.map(({ finished }) => finished));
  const { answers: known } = await report(run);
  expect(known.map((/** @type {{connections: number}} */ { connections }) => connections)).toEqual([
    1, 1, 1, 1,
  ]);
});

test("who_waits_for_a_connection_can_leave", async () => {
  const holders = Array.from({ length: 2 }, () =>
    open({ query: crypto.randomUUID() }, "endless", { connections: 2, sliceMs: 60_000 }),
  );
  await Promise.all(holders.map((answer) => until(answer, ({ text }) => text !== "")));
  const waiting = open({ query: crypto.randomUUID() }, "endless", { connections: 2 });
  const behind = open({ query: crypto.randomUUID() }, "endless", { connections: 2 });
  waiting.abort();
  behind.abort();
  expect(await waiting.finished).toMatchObject({ phase: "connecting", following: false });
  expect(await behind.finished).toMatchObject({ phase: "connecting", following: false });
});

/** @param {boolean} onLine */
function pretend(onLine) {
  Object.defineProperty(navigator, "onLine", { value: onLine, configurable: true });
  globalThis.dispatchEvent(new Event(onLine ? "online" : "offline"));
}

test("a_question_asked_offline_is_sent_when_the_network_is_back_and_once", async () => {
  pretend(false);
  const run = crypto.randomUUID();
  const answer = open({ query: run }, "whole");
  await until(answer, ({ waitingFor }) => waitingFor?.what === "network");
  expect((await report(run)).questions).toBe(0);
  pretend(true);
  expect(await answer.finished).toMatchObject({ phase: "done" });
  expect((await report(run)).questions).toBe(1);
});

test("being_offline_for_too_long_is_given_up_with_that_reason", async () => {
  pretend(false);
  const answer = open({ query: crypto.randomUUID() }, "whole", {
    patience: { retryMs: 10, maxRetryMs: 20, offlineGiveUpMs: 100 },
  });
  expect(await answer.finished).toMatchObject({ phase: "failed", failure: { code: "offline" } });
  pretend(true);
});

test("a_network_that_came_back_renews_the_connection_without_a_second_question", async () => {
  const run = crypto.randomUUID();
  const answer = open({ query: run }, "paced");
  await until(answer, ({ seq }) => seq > 5);
  pretend(true);
  expect(await answer.finished).toMatchObject({ phase: "done" });
  const { questions, answers } = await report(run);
  expect(questions).toBe(1);
  expect(answers[0]).toMatchObject({ connections: 2, text: answer.state.text });
});

test("a_page_looked_at_again_does_not_trust_a_connection_that_was_silent", async () => {
  const run = crypto.randomUUID();
  const answer = open({ query: run }, "stalled", { patience: { suspicionMs: 2000 } });
  await until(answer, ({ seq }) => seq === 5);
  document.dispatchEvent(new Event("visibilitychange")); // too early to suspect anything
  expect((await report(run)).answers[0].connections).toBe(1);
  await new Promise((resolve) => setTimeout(resolve, 2100));
  document.dispatchEvent(new Event("visibilitychange"));
  expect(await answer.finished).toMatchObject({ phase: "done" });
  expect((await report(run)).answers[0].connections).toBe(2);
});

test("a_resumption_that_is_not_answered_is_tried_again_soon", async () => {
  const run = crypto.randomUUID();
  // A wait for a silent connection's timeout would be one for this test's own.
  const patience = { retryMs: 20, resumeMs: 100, silenceMs: 600_000 };
  const answer = open({ query: run }, "resumes-into-nothing", { patience });
  expect(await answer.finished).toMatchObject({ phase: "done" });
  // A busy machine's answer may be late, too.
  expect((await report(run)).answers[0].connections).toBeGreaterThanOrEqual(4);
});

test("a_page_back_from_the_cache_of_pages_tries_at_once", async () => {
  const answer = open({ query: crypto.randomUUID() }, "ends-early", {
    patience: { retryMs: 60_000, maxRetryMs: 60_000, giveUpMs: 600_000 },
  });
  await until(answer, ({ phase }) => phase === "reconnecting");
  globalThis.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: false }));
  expect(answer.state.phase).toBe("reconnecting");
  globalThis.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
  expect(await answer.finished).toMatchObject({ phase: "done" });
});

test.each([
  [
    "locks_are_refused",
    () =>
      vi
        .spyOn(navigator.locks, "request")
        .mockRejectedValue(new DOMException("The request was denied.", "SecurityError")),
  ],
  [
    "channels_cannot_be_made",
    () =>
      vi.stubGlobal(
        "BroadcastChannel",
        class {
          constructor() {
            throw new DOMException("The operation is insecure.", "SecurityError");
          }
        },
      ),
  ],
  [
    "there_are_no_locks",
    () => vi.spyOn(navigator, "locks", "get").mockReturnValue(/** @type {any} */ (undefined)),
  ],
])("an_answer_arrives_where_%s", async (name, forbid) => {
  forbid();
  const answer = open({ query: name }, "drops-midway");
  const state = await answer.finished;
  expect(state.phase).toBe("done");
  expect(state.text).toBe((await report(name)).answers[0].text);
  const resumed = open({ answer: String(state.id) }, "drops-midway");
  expect((await resumed.finished).text).toBe(state.text);
});
