import { expect, test, vi } from "vitest";
import { serviceIn } from "./service.js";
import { stopAnswer } from "./stop.js";

/** @param {(() => Response | Promise<Response>)[]} responses one for each attempt */
function serviceThatSends(...responses) {
  const fetch = vi.fn(async () => {
    const next = responses.shift();
    return next ? next() : Response.error();
  });
  const patience = { retryMs: 1, maxRetryMs: 1, giveUpMs: 2000 };
  return { fetch, service: serviceIn({ url: "http://folyam.test/", fetch, headers: { A: "b" }, patience }) };
}

/** @param {number} status @param {string} code @param {Record<string, string>} [headers] */
const error =
  (status, code, headers = {}) =>
  () =>
    Response.json({ error: { code, message: "" } }, { status, headers });
const lost = () => Promise.reject(new TypeError("Failed to fetch"));

test("one_request_that_outlives_its_page_stops_an_answer", async () => {
  const { fetch, service } = serviceThatSends(() => Response.json({}));
  await stopAnswer("a/b", service);
  expect(fetch).toHaveBeenCalledExactlyOnceWith(new URL("http://folyam.test/answers/a%2Fb/stop"), {
    method: "POST",
    headers: { A: "b" },
    keepalive: true,
  });
});

test("a_lost_response_and_a_retryable_error_are_tried_again", async () => {
  const { fetch, service } = serviceThatSends(lost, error(503, "stop_pending"), () => Response.json({}));
  await stopAnswer("a", service);
  expect(fetch).toHaveBeenCalledTimes(3);
});

test("an_error_that_is_not_retryable_is_thrown_at_once", async () => {
  const { fetch, service } = serviceThatSends(error(404, "unknown_answer"));
  await expect(stopAnswer("a", service)).rejects.toMatchObject({ code: "unknown_answer" });
  expect(fetch).toHaveBeenCalledOnce();
});

test("a_pause_longer_than_the_patience_is_thrown_at_once", async () => {
  const { fetch, service } = serviceThatSends(error(503, "draining", { "Retry-After": "3" }));
  await expect(stopAnswer("a", service)).rejects.toMatchObject({ code: "draining", retryAfterMs: 3000 });
  expect(fetch).toHaveBeenCalledOnce();
});

test("attempts_are_bounded", async () => {
  const { fetch, service } = serviceThatSends(lost, lost, lost, lost, lost, lost);
  await expect(stopAnswer("a", service)).rejects.toThrow("Failed to fetch");
  expect(fetch).toHaveBeenCalledTimes(5);
});
