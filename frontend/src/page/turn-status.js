import { make } from "../markdown/elements.js";
import { figuresOf } from "./figures.js";
import { sentenceOf } from "./status.js";
import { formatNumber, say } from "./words.js";

/** @import { AnswerState } from "../client/state.js" */

const TICK_MS = 250;

/**
 * A sentence about an answer's phase with the time since its question, and the answer's figures once it has ended.
 *
 * @param {{askedAt: number}} turn
 */
export function createTurnStatus(turn) {
  const sentence = make("span", { class: "sentence" });
  const elapsed = make("span", { class: "elapsed" });
  const status = make("p", { class: "status" }, sentence, elapsed);
  const figures = make("p", { class: "figures" });
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let ticking;

  /** @param {Readonly<AnswerState>} state */
  const tick = (state) => {
    sentence.textContent = sentenceOf(state);
    const seconds = Math.floor((Date.now() - turn.askedAt) / 1000);
    elapsed.textContent =
      state.following && seconds > 0 ? say("elapsed", { seconds: formatNumber(seconds) }) : "";
  };

  const stop = () => {
    clearInterval(ticking);
    ticking = undefined;
  };

  return {
    status,
    figures,
    /** @param {Readonly<AnswerState>} state */
    show(state) {
      status.dataset.phase = state.phase;
      tick(state);
      status.hidden = sentence.textContent === "";
      figures.textContent = figuresOf(state).join(" · ");
      figures.hidden = figures.textContent === "";
    },
    /** Update the seconds as long as the answer is followed. @param {() => Readonly<AnswerState>} state */
    tickWhile(state) {
      if (state().following) {
        ticking ??= setInterval(() => tick(state()), TICK_MS);
      } else {
        stop();
      }
    },
    stop,
  };
}
