import { expect, test } from "vitest";
import { backoffMs, retryAfterMs } from "./backoff.js";

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

test("retry_after_is_seconds_or_a_date", () => {
  const now = Date.parse("Wed, 21 Oct 2015 07:28:00 GMT");
  expect(retryAfterMs("120", now)).toBe(120_000);
  expect(retryAfterMs("Wed, 21 Oct 2015 07:28:07 GMT", now)).toBe(7000);
  expect(retryAfterMs("Wed, 21 Oct 2015 07:27:00 GMT", now)).toBe(0);
  expect(retryAfterMs("soon", now)).toBeNull();
  expect(retryAfterMs(null, now)).toBeNull();
});
