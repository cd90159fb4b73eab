import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { openAnswer } from "../client/index.js";

/** @import { Answer, AnswerOptions, AnswerState, Question, Resumption } from "../client/index.js" */

/**
 * What becomes of a running answer when its component is removed, or asks another question:
 *
 * - `abort`: it is no longer followed. Without another follower, the service stops it after a while, at the asker's cost.
 * - `stop`: the service stops it at once, for all of its followers.
 *
 * @typedef {"abort" | "stop"} Leaving
 *
 * @typedef {AnswerOptions & {leaving?: Leaving}} UseAnswerOptions
 *
 * @typedef {object} UsedAnswer
 * @property {Readonly<AnswerState> | null} state of the last question's answer; null before the first question
 * @property {(request: Question | Resumption) => Answer} ask ask, or follow an answer by its id. It stays the same function.
 * @property {() => Promise<void>} stop stop the answer for all of its followers. It stays the same function.
 */

/**
 * Follow one answer at a time in a React component.
 *
 * The hook asks nothing by itself: each question is paid for, and React renders a component, and mounts it in
 * development, as often as it likes.
 *
 * @param {UseAnswerOptions} [options] those of `openAnswer`, and `leaving` (`abort`). The last ones count.
 * @returns {UsedAnswer}
 */
export function useAnswer(options = {}) {
  const [answer, setAnswer] = useState(/** @type {Answer | null} */ (null));
  const current = useRef(/** @type {Answer | null} */ (null));
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });

  const leave = useCallback(() => {
    const left = current.current;
    current.current = null;
    if (left?.state.following) {
      if (latest.current.leaving === "stop") {
        left.stop().catch(() => {}); // The service stops it without followers, too.
      } else {
        left.abort();
      }
    }
  }, []);
  useEffect(() => leave, [leave]);

  const ask = useCallback(
    (/** @type {Question | Resumption} */ request) => {
      leave();
      current.current = openAnswer(request, latest.current); // It passes over `leaving`.
      setAnswer(current.current);
      return current.current;
    },
    [leave],
  );
  const stop = useCallback(async () => current.current?.stop(), []);
  const subscribe = useCallback(
    (/** @type {() => void} */ listener) => answer?.subscribe(listener) ?? (() => {}),
    [answer],
  );
  const state = useSyncExternalStore(
    subscribe,
    () => answer?.state ?? null,
    () => null,
  );
  return { state, ask, stop };
}
