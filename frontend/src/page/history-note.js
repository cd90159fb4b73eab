import { make } from "../markdown/elements.js";
import { formatNumber, say } from "./words.js";

/** A note that the model was not sent all of the conversation. */
export function createHistoryNote() {
  const element = make("p", { class: "note" });
  element.hidden = true;
  /** @type {number | null} */
  let sent = null;

  const refresh = () => {
    element.hidden = sent === null;
    element.textContent = sent === null ? "" : say("historyCut", { count: formatNumber(sent) });
  };
  return {
    element,
    refresh,
    /** @param {number | null} turns the number of earlier turns that the model was sent; null for all */
    show(turns) {
      sent = turns;
      refresh();
    },
  };
}
