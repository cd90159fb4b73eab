import { expect, test } from "vitest";
import { backoffMs, pauseMs, retryAfterMs } from "./backoff.js";

test("pauses_double_up_to_a_bound", () => {
  const random = () => 1;
  const pauses = [1, 2, 3, 4, 5, 50].map((attempt) =>
    backoffMs(attempt, { baseMs: 100, maxMs: 1000, random }),
  );
  expect(pauses).toEqual([100, 200, 400, 800, 1000, 1000]);
});

test("pauses_are_spread_over_their_upper_half", () => {
  expect(backoffMs(3, { baseMs: 100, maxMs: 1000, random: () => 0 })).toBe(200);
  const pause = backoffMs(3, { baseMs: 100, maxMs: 1000 });
  expect(pause).toBeGreaterThanOrEqual(200);
  expect(pause).toBeLessThanOrEqual(400);
});

test("a_pause_is_what_was_asked_for_and_never_less_than_the_own_back_off", () => {
  const bounds = { baseMs: 100, maxMs: 1000, random: () => 1 };
  expect(pauseMs(1, 7000, bounds)).toBe(7000);
  for (const askedMs of [null, 0, 99]) {
    expect(pauseMs(1, askedMs, bounds)).toBe(100);
    expect(pauseMs(50, askedMs, bounds)).toBe(1000);
  }
});

test("a_pause_is_never_so_long_that_its_timer_would_fire_at_once", () => {
  for (const askedMs of [2 ** 31, 1e30, Infinity]) {
    expect(pauseMs(1, askedMs, { baseMs: 100, maxMs: 1000 })).toBe(2 ** 31 - 1);
  }
});

test("retry_after_is_seconds_or_a_date", () => {
  const now = Date.parse("Wed, 21 Oct 2015 07:28:00 GMT");
  for (const [value, ms] of /** @type {const} */ ([
    ["120", 120_000],
    [" 120 ", 120_000],
    ["0", 0],
    ["1.5", 1500],
    ["Wed, 21 Oct 2015 07:28:07 GMT", 7000],
    ["Wednesday, 21-Oct-15 07:28:07 GMT", 7000],
    ["Wed Oct 21 07:28:07 2015", 7000],
    ["Wed, 21 Oct 2015 09:28:07 +0200", 7000],
    ["Wed, 21 Oct 2015 07:27:00 GMT", 0],
  ])) {
    expect(retryAfterMs(value, now), value).toBe(ms);
  }
  expect(retryAfterMs("9".repeat(400), now)).toBe(Infinity);
});

test("retry_after_that_is_neither_is_none", () => {
  for (const value of [
    null,
    "",
    "soon",
    "soon 5",
    "-1",
    "+1",
    "NaN",
    "Infinity",
    "1e3",
    "0x10",
    "1.",
    ".5",
    "1, 2",
    "2015-10-21",
  ]) {
    expect(retryAfterMs(value), String(value)).toBeNull();
  }
});
