import { find } from "./elements.js";

/** @import { Phase } from "../client/state.js" */

/**
 * A question that was sent while an answer runs, and waits for its end.
 *
 * @param {object} actions
 * @param {(question: string) => void} actions.onAsk
 * @param {(question: string) => void} actions.onTakenBack
 */
export function createNextQuestion({ onAsk, onTakenBack }) {
  const place = find("#next", HTMLElement);
  const shown = find("#next-question", HTMLElement);
  let waiting = "";

  /** @param {string} question */
  const set = (question) => {
    waiting = question;
    place.hidden = question === "";
    shown.textContent = question;
  };
  /** @param {(question: string) => void} use */
  const give = (use) => {
    if (waiting !== "") {
      const question = waiting;
      set("");
      use(question);
    }
  };

  return {
    set,
    isFree: () => waiting === "",
    takeBack: () => give(onTakenBack),
    /** Ask it; or behind a failure, take it back. @param {Phase} phase of the answer that has ended */
    answerEnded: (phase) => give(phase === "done" || phase === "stopped" ? onAsk : onTakenBack),
  };
}
