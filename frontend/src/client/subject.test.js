import { expect, test, vi } from "vitest";
import { FolyamError } from "./errors.js";
import { createSubject } from "./subject.js";

test("each_event_changes_the_state_and_is_told_to_listeners_until_they_are_removed", () => {
  const subject = createSubject({});
  const listener = vi.fn();
  const remove = subject.subscribe(listener);
  subject.accept({ seq: 1, type: "start", answer: "a", model: "m" });
  subject.accept({ seq: 2, type: "delta", text: "One" });
  remove();
  subject.accept({ seq: 3, type: "delta", text: " two" });
  expect(listener.mock.calls.map(([{ seq, text }]) => [seq, text])).toEqual([
    [1, ""],
    [2, "One"],
  ]);
  expect(subject.state()).toMatchObject({ seq: 3, text: "One two", phase: "streaming" });
});

test("a_loop_that_a_listener_starts_gets_each_event_once", async () => {
  const subject = createSubject({});
  /** @type {AsyncIterator<import("./events.js").AnswerEvent> | undefined} */
  let loop;
  subject.subscribe(() => {
    loop ??= subject.events();
  });
  subject.accept({ seq: 1, type: "delta", text: "once" });
  subject.close();
  expect(await loop?.next()).toEqual({ done: false, value: { seq: 1, type: "delta", text: "once" } });
  expect(await loop?.next()).toEqual({ done: true, value: undefined });
});

test("a_phase_is_told_only_when_it_changes", () => {
  const subject = createSubject({});
  const listener = vi.fn();
  subject.subscribe(listener);
  subject.enter("connecting");
  subject.enter("waiting");
  subject.enter("waiting");
  expect(listener).toHaveBeenCalledOnce();
});

test("the_name_is_known_at_once_where_an_answer_is_resumed_and_else_once_it_is_told", async () => {
  expect(await createSubject({ id: "known" }).named).toBe("known");
  const subject = createSubject({});
  subject.identify("told");
  expect(await subject.named).toBe("told");
  expect(subject.state().id).toBe("told");
});

test("giving_up_is_a_failure_and_aborting_is_none", async () => {
  const failed = createSubject({});
  failed.giveUp(new FolyamError("offline", "Too long.", { retryAfterMs: 7 }), { aborted: false });
  const failure = {
    code: "offline",
    message: "Too long.",
    retryable: true,
    of: "connection",
    retryAfterMs: 7,
  };
  expect(failed.state()).toMatchObject({ phase: "failed", following: false, failure });
  await expect(failed.events().next()).rejects.toMatchObject({ code: "offline" });

  const aborted = createSubject({});
  aborted.giveUp(new Error("enough"), { aborted: true });
  expect(aborted.state()).toMatchObject({ phase: "connecting", following: false, failure: null });
  await expect(aborted.events().next()).rejects.toThrow("enough");
});

test("an_error_that_is_not_the_librarys_own_is_a_protocol_failure", () => {
  const subject = createSubject({});
  subject.giveUp(new TypeError("x is undefined"), { aborted: false });
  expect(subject.state().failure).toMatchObject({ code: "protocol", message: "TypeError: x is undefined" });
});
