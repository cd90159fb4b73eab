import { copyButton } from "./copy.js";
import { make } from "../markdown/elements.js";
import { label } from "./words.js";

/** @import { AnswerState } from "../client/state.js" */
/** @import { Turn } from "./conversations.js" */

/**
 * The buttons below an answer that is over.
 *
 * @param {Turn} turn
 * @param {object} actions
 * @param {() => void} actions.onRetry asks again
 * @param {() => void} actions.onGoOn follows the same answer again
 * @param {() => string} actions.link
 * @param {() => string} actions.text
 */
export function createTurnActions(turn, { onRetry, onGoOn, link, text }) {
  const copy = copyButton(text, "copyAnswer");
  const copyLink = copyButton(() => new URL(link(), location.href).href, "copyLink");
  const retry = label(make("button", { type: "button", class: "quiet" }), "retry");
  const goOn = label(make("button", { type: "button", class: "quiet" }), "goOn");
  const element = make("div", { class: "actions", hidden: "" }, goOn, copy, copyLink, retry);
  retry.addEventListener("click", onRetry);
  goOn.addEventListener("click", onGoOn);
  /** Show the way on after a failure as the first and prominent button. @param {HTMLElement | null} cure */
  const stress = (cure) => {
    retry.classList.toggle("quiet", retry !== cure);
    goOn.classList.toggle("quiet", goOn !== cure);
    if (cure && element.firstElementChild !== cure) {
      element.prepend(cure);
    }
  };
  return {
    element,
    /** @param {Readonly<AnswerState>} state */
    show(state) {
      element.hidden = state.following;
      copy.hidden = state.text === "";
      copyLink.hidden = turn.answer === null;
      retry.hidden = turn.question === "";
      goOn.hidden = !(state.failure?.of === "connection" && state.failure.retryable && turn.answer !== null);
      stress(state.phase !== "failed" ? null : goOn.hidden ? retry : goOn);
    },
  };
}
