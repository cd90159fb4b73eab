import { describe, expect, inject, test } from "vitest";
import { openAnswer } from "./index.js";

const server = inject("server");

/** Patience for tests: short pauses, and timeouts that a busy machine keeps. */
const BRISK = { retryMs: 20, maxRetryMs: 100 };

/** Patience where attempts without an event are to be given up, and silence is only that of a busy machine. */
const HASTY = { ...BRISK, giveUpMs: 2500 };

/** Patience where a timeout is to come: half a minute is a second here. */
const IMPATIENT = { ...BRISK, silenceMs: 1000, giveUpMs: 2500 };

const TWENTY = Array.from({ length: 20 }, (_, index) => `ő${index + 1} `).join("");

/**
 * Asks an endpoint of the misbehaving server.
 *
 * @param {string} behaviour
 * @param {import("./answer.js").AnswerOptions} [options]
 */
function ask(behaviour, options = {}) {
  const run = `${behaviour} ${crypto.randomUUID()}`;
  const answer = openAnswer(
    { query: run },
    { url: `${server}/${behaviour}/`, patience: BRISK, share: false, ...options },
  );
  return { answer, run };
}

/** @param {string} run */
async function report(run) {
  return (await fetch(`${server}/report?run=${encodeURIComponent(run)}`)).json();
}

/** @param {AsyncIterable<import("./events.js").AnswerEvent>} answer */
async function collect(answer) {
  const events = [];
  for await (const event of answer) {
    events.push(event);
  }
  return events;
}

/** @param {import("./events.js").AnswerEvent[]} events */
function textOf(events) {
  return events.map((event) => (event.type === "delta" ? event.text : "")).join("");
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

/** @param {import("./answer.js").Answer} answer */
function phasesOf(answer) {
  const phases = [answer.state.phase];
  answer.subscribe(({ phase }) => phases.at(-1) !== phase && phases.push(phase));
  return phases;
}

describe("an answer", () => {
  test("comes_as_events_and_as_a_state", async () => {
    const { answer } = ask("whole");
    const phases = phasesOf(answer);
    const events = await collect(answer);
    expect(textOf(events)).toBe(TWENTY);
    expect(events[0]).toMatchObject({ type: "start", model: "misbehaving" });
    expect(events.at(-1)).toMatchObject({ type: "done", finish_reason: "stop" });
    expect(phases).toEqual(["connecting", "waiting", "streaming", "done"]);
    expect(await answer.finished).toMatchObject({
      text: TWENTY,
      end: { usage: { completion_tokens: 20 } },
      following: false,
    });
  });

  test("that_was_begun_elsewhere_is_resumed_by_its_id", async () => {
    const { answer } = ask("paced");
    await until(answer, ({ seq }) => seq > 3);
    const id = String(answer.state.id);
    const second = openAnswer({ answer: id }, { url: `${server}/paced/`, share: false });
    const third = openAnswer({ answer: id, after: 3 }, { url: `${server}/paced/`, share: false });
    const [whole, rest] = await Promise.all([collect(second), collect(third)]);
    expect(whole[0]).toMatchObject({ seq: 1, type: "start" });
    expect(textOf(rest)).toMatch(/^ő3 /);
    expect(`ő1 ő2 ${textOf(rest)}`).toBe(textOf(whole));
    expect((await answer.finished).text).toBe(textOf(whole));
  });

  test("gives_a_late_loop_all_events_so_far_merged", async () => {
    const { answer } = ask("paced");
    await until(answer, ({ seq }) => seq > 10);
    const events = await collect(answer);
    expect(events[1]).toMatchObject({ type: "delta", text: expect.stringContaining("ő1 ő2 ő3 ") });
    expect(events.map((event) => (event.type === "delta" ? event.text : "")).join("")).toBe(
      answer.state.text,
    );
  });

  test("gives_a_slow_loop_merged_deltas_and_loses_nothing", async () => {
    const { answer } = ask("whole");
    let text = "";
    let rounds = 0;
    for await (const event of answer) {
      rounds += 1;
      text += event.type === "delta" ? event.text : "";
      await until(answer, ({ seq }) => seq >= Math.min(event.seq + 5, 22));
    }
    expect(text).toBe(TWENTY);
    expect(rounds).toBeLessThan(12);
  });

  test("gives_a_loop_after_its_end_everything_and_ends", async () => {
    const { answer } = ask("whole");
    await answer.finished;
    expect((await collect(answer)).map(({ type }) => type)).toEqual(["start", "delta", "done"]);
  });

  test("goes_on_when_a_loop_leaves_early_and_when_a_listener_ends", async () => {
    const { answer } = ask("whole");
    let calls = 0;
    const end = answer.subscribe(() => {
      calls += 1;
      end();
    });
    for await (const event of answer) {
      if (event.type === "delta") {
        break;
      }
    }
    expect((await answer.finished).text).toBe(TWENTY);
    expect(calls).toBe(1);
  });

  test("begun_anew_forgets_its_text", async () => {
    const { answer } = ask("restarts");
    const { text } = await answer.finished;
    expect(text).toBe(
      Array.from({ length: 12 }, (_, index) => `ő${index + 10} `)
        .slice(0, 11)
        .join(""),
    );
  });

  test("keeps_reasoning_apart", async () => {
    const { answer } = ask("reasons");
    expect(await answer.finished).toMatchObject({ reasoning: "Hm. ", text: TWENTY.replace("ő2 ", "") });
  });

  const CALLED = [
    { index: 0, id: "a", name: "weather", arguments: '{"city":"Győr 🌊"}' },
    { index: 1, id: "b", name: "time", arguments: "{}" },
  ];

  test.each(["calls-tools", "calls-tools-and-drops", "merges-calls-of-tools"])(
    "puts_calls_of_tools_together: %s",
    async (behaviour) => {
      const { answer } = ask(behaviour);
      expect(await answer.finished).toMatchObject({ phase: "done", text: "ő1 ő8 ", toolCalls: CALLED });
      const calls = (await collect(answer)).flatMap((event) => ("tool_call" in event ? [event] : []));
      expect(calls).toMatchObject([
        { seq: 4, tool_call: { index: 0, id: "a", name: "weather", arguments: '{"city":' } },
        { seq: 5, tool_call: { index: 1, id: "b", name: "time", arguments: "{" } },
        { seq: 7, tool_call: { index: 0, arguments: '"Győr 🌊"}' } },
        { seq: 8, tool_call: { index: 1, arguments: "}" } },
      ]);
    },
  );

  test("begun_anew_forgets_its_calls_of_tools", async () => {
    const { answer } = ask("calls-tools-and-restarts");
    expect((await answer.finished).toolCalls).toEqual([]);
  });

  const VOICES = [
    { type: "start" },
    { seq: 3, type: "delta", reasoning: "Is it right? " },
    { seq: 5, type: "delta", text: "ő3 ő4 " },
    { seq: 6, type: "delta", reasoning: "No. " },
    { seq: 8, type: "delta", refusal: "I will not." },
    { seq: 9, type: "delta", text: "ő8 " },
    { type: "done" },
  ];

  test("gives_a_late_loop_each_voice_merged_by_itself_and_in_its_order", async () => {
    const { answer } = ask("all-voices");
    expect(await answer.finished).toMatchObject({
      text: "ő3 ő4 I will not.ő8 ",
      reasoning: "Is it right? No. ",
    });
    expect(await collect(answer)).toMatchObject(VOICES);
  });

  test("gives_a_slow_loop_each_voice_merged_by_itself", async () => {
    const { answer } = ask("all-voices");
    const events = [];
    for await (const event of answer) {
      events.push(event);
      await answer.finished;
    }
    expect(events).toMatchObject(VOICES);
  });

  test("gives_what_the_service_has_merged_as_it_is", async () => {
    expect(await collect(ask("merges-all-voices").answer)).toMatchObject(VOICES);
  });

  test("that_failed_says_so_and_does_not_throw", async () => {
    const { answer } = ask("says-failed");
    expect((await collect(answer)).at(-1)).toMatchObject({ type: "failed", code: "upstream_timeout" });
    expect(await answer.finished).toMatchObject({
      phase: "failed",
      failure: { of: "answer", code: "upstream_timeout", retryable: true },
    });
  });

  test("with_an_event_of_a_later_version_goes_on", async () => {
    const { answer } = ask("from-the-future");
    expect(await answer.finished).toMatchObject({ phase: "done", text: TWENTY.replace("ő3 ", "") });
  });
});

describe("a connection that", () => {
  for (const [behaviour, patience = BRISK] of /** @type {[string, object?][]} */ ([
    ["drops-midway"],
    ["taken-over"],
    ["drops-at-every-event"],
    ["drops-after-the-headers"],
    ["ends-early"],
    ["stalled", IMPATIENT],
    ["stalled-before-the-first", IMPATIENT],
    ["trickle"],
    ["restarting"],
    ["replays-all"],
    ["merges"],
    ["garbage"],
    ["byte-order-mark"],
    ["no-answer-header"],
  ])) {
    test(`${behaviour}_costs_no_event_doubles_none_and_begins_nothing_anew`, async () => {
      const { answer, run } = ask(behaviour, { patience });
      const events = await collect(answer);
      const seqs = events.map(({ seq }) => seq);
      expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b));
      const { questions, answers } = await report(run);
      expect(questions).toBe(1);
      expect(answers).toHaveLength(1);
      expect(answer.state.text).toBe(answers[0].text);
      expect(answer.state.phase).toBe("done");
    });
  }

  test("is_lost_shows_as_reconnecting", async () => {
    const { answer } = ask("restarting");
    const phases = phasesOf(answer);
    /** @type {unknown[]} */
    const waits = [];
    answer.subscribe(({ waitingFor }) => waitingFor && waits.push(waitingFor));
    await answer.finished;
    expect(phases).toEqual(["connecting", "waiting", "streaming", "reconnecting", "streaming", "done"]);
    expect(waits[0]).toMatchObject({ what: "retry", untilMs: expect.any(Number) });
  });

  test("sends_heartbeats_is_alive_however_long_the_first_token_takes", async () => {
    // Twice as long as the limit of silence, which leaves room for a machine that is busy.
    const { answer, run } = ask("heartbeats", { patience: { ...IMPATIENT, silenceMs: 2500 } });
    const phases = phasesOf(answer);
    await answer.finished;
    expect(phases).toEqual(["connecting", "waiting", "streaming", "done"]);
    expect((await report(run)).answers[0].connections).toBe(1);
  });

  test("is_silent_for_ever_is_given_up_with_a_reason", async () => {
    const { answer, run } = ask("stalled-for-ever", { patience: IMPATIENT });
    await expect(collect(answer)).rejects.toMatchObject({ code: "unreachable", retryable: true });
    expect(answer.state).toMatchObject({
      phase: "failed",
      following: false,
      failure: { of: "connection", code: "unreachable" },
    });
    expect((await report(run)).answers).toHaveLength(1);
  });

  test("ends_for_ever_is_given_up_with_a_reason", async () => {
    const { answer } = ask("ends-for-ever", { patience: HASTY });
    expect(await answer.finished).toMatchObject({ phase: "failed", failure: { code: "unreachable" } });
  });

  test("sends_garbage_for_ever_is_given_up_with_a_reason", async () => {
    const { answer } = ask("garbage-for-ever", { patience: HASTY });
    expect(await answer.finished).toMatchObject({ phase: "failed", failure: { code: "protocol" } });
  });

  test("resumes_another_answer_is_not_believed", async () => {
    const { answer } = ask("another-answer");
    expect(await answer.finished).toMatchObject({
      phase: "failed",
      failure: { code: "protocol", retryable: false },
    });
    expect(answer.state.text).toBe("ő1 ő2 ő3 ő4 ");
  });

  test("names_a_pause_gets_it", async () => {
    const { answer } = ask("retry-field");
    await until(answer, ({ phase }) => phase === "reconnecting");
    const began = performance.now();
    expect((await answer.finished).text).toBe(TWENTY);
    expect(performance.now() - began).toBeGreaterThan(550);
  });

  test("names_an_endless_pause_is_tried_again_before_giving_up", async () => {
    const { answer } = ask("retry-field-for-ever", { patience: HASTY });
    expect(await answer.finished).toMatchObject({ phase: "done", text: TWENTY });
  });

  test.each([
    "resumes-when-ready",
    "resumes-when-the-gateway-is-ready",
    "resumes-when-the-gateway-has-waited",
  ])("asks_to_come_back_later_is_asked_later_%s", async (behaviour) => {
    const { answer } = ask(behaviour);
    const waiting = await until(answer, ({ waitingFor }) => waitingFor?.what === "service");
    expect(waiting).toMatchObject({ phase: "reconnecting" });
    const began = performance.now();
    expect((await answer.finished).text).toBe(TWENTY);
    expect(performance.now() - began).toBeGreaterThan(900);
  });

  test("finds_the_answer_forgotten_says_so", async () => {
    const { answer } = ask("forgotten");
    expect(await answer.finished).toMatchObject({
      phase: "failed",
      failure: { code: "unknown_answer", retryable: false },
    });
  });

  test("has_nothing_left_asks_how_the_answer_ended", async () => {
    const { answer } = ask("whole");
    await answer.finished;
    const again = openAnswer(
      { answer: String(answer.state.id), after: 22 },
      { url: `${server}/whole/`, share: false },
    );
    expect(await again.finished).toMatchObject({ phase: "done", seq: 22 });
  });

  test("has_nothing_left_of_a_running_answer_is_not_believed", async () => {
    const { answer } = ask("nothing-left");
    const { phase } = await answer.finished;
    expect(phase).toBe("done"); // once it was over; never before
    expect(answer.state.seq).toBe(22);
  });
});

describe("a question", () => {
  test("that_is_refused_is_not_asked_again", async () => {
    for (const [behaviour, code, status] of /** @type {const} */ ([
      ["refuses", "empty_query", false],
      ["busy-without-a-time", "upstream_rate_limited", true],
      ["a-login-page", "protocol", true],
      ["refused-for-good-with-a-time", "upstream_credentials", false],
    ])) {
      const { answer, run } = ask(behaviour);
      expect(await answer.finished).toMatchObject({
        phase: "failed",
        failure: { code, retryable: status, of: "connection" },
      });
      expect((await report(run)).questions).toBe(1);
    }
  });

  test.each(["busy-once", "upstream-away-once", "upstream-slow-once"])(
    "that_was_refused_with_a_time_is_asked_again_then_%s",
    async (behaviour) => {
      const { answer, run } = ask(behaviour);
      expect(await until(answer, ({ waitingFor }) => waitingFor !== null)).toMatchObject({
        phase: "connecting",
        waitingFor: { what: "service" },
      });
      expect((await answer.finished).text).toBe(TWENTY);
      expect((await report(run)).questions).toBe(2);
    },
  );

  test("that_would_have_to_wait_for_too_long_is_given_up_at_once", async () => {
    const { answer } = ask("busy-for-long");
    expect(await answer.finished).toMatchObject({
      failure: { code: "upstream_rate_limited", retryAfterMs: 3_600_000 },
    });
  });

  test.each([
    ["hangs-up", "unreachable"],
    ["no-status", "unreachable"],
    // A gateway does not know whether the answer has begun.
    ["bad-gateway", "refused"],
    ["gateway-with-a-time", "refused"],
    ["gateway-that-waited", "refused"],
    ["service-unreachable", "service_unreachable"],
  ])("whose_fate_is_unknown_(%s)_is_repeated_with_its_key_and_given_up", async (behaviour, code) => {
    const { answer, run } = ask(behaviour, { patience: { ...IMPATIENT, giveUpMs: 3000 } });
    expect(await answer.finished).toMatchObject({ phase: "failed", failure: { code, retryable: true } });
    const { questions, keys } = await report(run);
    expect(questions).toBeGreaterThan(1);
    expect(keys).toBe(1);
  });

  test.each(["hangs-up-with-the-answer", "silent-with-the-answer", "gateway-fails-with-the-answer"])(
    "whose_response_is_lost_(%s)_gets_the_answer_that_it_began",
    async (behaviour) => {
      const { answer, run } = ask(behaviour, { patience: IMPATIENT });
      expect(await answer.finished).toMatchObject({ phase: "done", text: TWENTY });
      const { questions, answers } = await report(run);
      expect([questions, answers.length]).toEqual([2, 1]);
    },
  );

  test("with_a_key_of_ones_own_is_the_same_answer_again", async () => {
    const key = `key-${Math.random()}`;
    const one = ask("whole", { key });
    await one.answer.finished;
    const { answer } = ask("whole", { key });
    expect(await answer.finished).toMatchObject({ phase: "done", id: one.answer.state.id, text: TWENTY });
  });

  test("has_a_key_that_no_other_question_has", async () => {
    const run = `run-${Math.random()}`;
    const questions = [1, 2].map(() => openAnswer({ query: run }, { url: `${server}/whole/`, share: false }));
    await Promise.all(questions.map((answer) => answer.finished));
    expect((await report(run)).keys).toBe(2);
  });

  test("without_a_server_fails_with_a_reason", async () => {
    const answer = openAnswer({ query: "?" }, { url: "http://127.0.0.1:9/", patience: HASTY, share: false });
    expect(await answer.finished).toMatchObject({
      phase: "failed",
      failure: { code: "unreachable", of: "connection" },
    });
  });
});

describe("a service that leaves no pause", () => {
  // Even the shortest pauses of the default back-off leave room for only a few tries in 3 seconds. This bounds the number
  // of tries on any machine.
  const patience = { giveUpMs: 3000 };

  for (const behaviour of [
    "busy-and-in-a-hurry",
    "busy-until-a-time-that-has-passed",
    "upstream-away-and-in-a-hurry",
  ]) {
    test(`${behaviour}_is_asked_no_sooner_than_the_own_back_off_says`, async () => {
      const { answer, run } = ask(behaviour, { patience });
      expect(await answer.finished).toMatchObject({ phase: "failed", failure: { of: "connection" } });
      const { questions } = await report(run);
      expect(questions).toBeGreaterThan(1);
      expect(questions).toBeLessThanOrEqual(6);
    });
  }

  for (const behaviour of [
    "resumes-in-a-hurry",
    "resumes-through-a-gateway-in-a-hurry",
    "retry-field-in-a-hurry",
    "ends-for-ever",
    "nothing-left-for-ever",
  ]) {
    test(`${behaviour}_is_resumed_no_sooner_than_the_own_back_off_says`, async () => {
      const { answer, run } = ask(behaviour, { patience });
      expect(await answer.finished).toMatchObject({ phase: "failed", failure: { of: "connection" } });
      const { connections } = (await report(run)).answers[0];
      expect(connections).toBeGreaterThan(1);
      expect(connections).toBeLessThanOrEqual(7);
    });
  }
});

describe("stop", () => {
  test("ends_the_generation_and_comes_as_an_event", async () => {
    const { answer, run } = ask("endless");
    await until(answer, ({ text }) => text !== "");
    await answer.stop();
    expect((await collect(answer)).at(-1)).toMatchObject({ type: "stopped", by: "user" });
    await answer.stop(); // again is nothing
    expect((await report(run)).answers[0]).toMatchObject({ stops: 1, state: "stopped" });
  });

  test("before_the_answer_has_a_name_waits_for_it", async () => {
    const { answer } = ask("endless");
    await answer.stop();
    expect((await answer.finished).phase).toBe("stopped");
  });

  test("of_what_never_began_is_nothing", async () => {
    const { answer } = ask("refuses");
    await expect(answer.stop()).resolves.toBeUndefined();
  });

  test("is_tried_again_when_the_service_is_not_ready", async () => {
    const { answer, run } = ask("stops-at-the-second-try");
    await answer.stop();
    expect((await answer.finished).phase).toBe("stopped");
    expect((await report(run)).answers[0].stops).toBe(2);
  });

  test("is_tried_again_no_sooner_than_the_service_asks", async () => {
    const { answer, run } = ask("stops-when-ready");
    await until(answer, ({ text }) => text !== "");
    const began = performance.now();
    await answer.stop();
    expect(performance.now() - began).toBeGreaterThan(900);
    expect((await report(run)).answers[0].stops).toBe(2);
  });

  test("that_would_have_to_wait_for_too_long_says_so_at_once", async () => {
    const { answer, run } = ask("stops-much-later");
    await expect(answer.stop()).rejects.toMatchObject({ code: "refused", retryAfterMs: 3_600_000 });
    expect((await report(run)).answers[0].stops).toBe(1);
    answer.abort();
  });

  test("that_fails_says_so", async () => {
    for (const behaviour of ["does-not-stop", "stop-hangs-up"]) {
      const { answer, run } = ask(behaviour);
      await expect(answer.stop()).rejects.toThrow();
      expect((await report(run)).answers[0].stops).toBeGreaterThanOrEqual(5);
      answer.abort();
    }
  });
});

describe("abort", () => {
  test("stops_following_and_leaves_the_answer_alone", async () => {
    const { answer, run } = ask("endless");
    const events = collect(answer);
    await until(answer, ({ text }) => text !== "");
    answer.abort(new Error("enough"));
    await expect(events).rejects.toThrow("enough");
    expect(await answer.finished).toMatchObject({ phase: "streaming", following: false });
    const { answers } = await report(run);
    expect(answers[0]).toMatchObject({ state: "running", stops: 0 });
  });

  test("works_while_waiting_for_the_next_try", async () => {
    const { answer } = ask("ends-for-ever", {
      patience: { ...BRISK, retryMs: 60_000, maxRetryMs: 60_000, giveUpMs: 600_000 },
    });
    await until(answer, ({ phase }) => phase === "reconnecting");
    answer.abort();
    expect((await answer.finished).following).toBe(false);
  });

  test("comes_from_a_signal_too", async () => {
    const controller = new AbortController();
    const { answer } = ask("endless", { signal: controller.signal });
    await until(answer, ({ text }) => text !== "");
    controller.abort();
    expect((await answer.finished).following).toBe(false);
    const { answer: never, run } = ask("endless", { signal: controller.signal });
    expect((await never.finished).following).toBe(false);
    expect((await report(run)).questions).toBe(0);
  });
});
