import { FIRST_STATE } from "../client/state.js";
import { announce } from "./announcer.js";
import { createAnswerBody } from "./answer-body.js";
import { make } from "../markdown/elements.js";
import { createHistoryNote } from "./history-note.js";
import { sentenceOf } from "./status.js";
import { createTurnActions } from "./turn-actions.js";
import { createTurnStatus } from "./turn-status.js";
import { label, say } from "./words.js";

/** @import { AnswerState } from "../client/state.js" */
/** @import { Turn } from "./conversations.js" */

/**
 * A question and its answer.
 *
 * @param {Turn} turn
 * @param {object} actions
 * @param {() => void} actions.onRetry asks again
 * @param {() => void} actions.onGoOn follows the same answer again
 * @param {() => void} actions.onGrown
 * @param {() => string} actions.link
 */
export function createTurnView(turn, { onRetry, onGoOn, onGrown, link }) {
  /** @type {Readonly<AnswerState>} */
  let state = { ...FIRST_STATE, ...(turn.kept && { ...turn.kept, following: false }) };
  let frame = 0;
  const body = createAnswerBody();
  const status = createTurnStatus(turn);
  const actions = createTurnActions(turn, { onRetry, onGoOn, link, text: () => state.text });
  const note = createHistoryNote();
  const said = [body.reasoning, body.text, body.toolCalls];
  const ends = [status.status, status.figures, actions.element];
  const element = make("article", { class: "turn" }, headingOf(turn), note.element, ...said, ...ends);

  const refresh = () => {
    note.refresh();
    status.show(state);
    actions.show(state);
  };

  const draw = () => {
    frame = 0;
    const isDrawn = body.draw(state);
    if (!isDrawn) {
      drawLater();
    }
    element.setAttribute("aria-busy", String(state.following));
    // The end is shown only after all of the text.
    if (state.following || isDrawn) {
      refresh();
    }
    onGrown();
  };
  const drawLater = () => {
    frame ||= requestAnimationFrame(draw);
  };

  draw();
  return {
    element,
    refresh,
    showHistoryCut: note.show,
    /** @param {Readonly<AnswerState>} next */
    show(next) {
      announceChange(state, next);
      state = next;
      status.tickWhile(() => state);
      drawLater();
    },
    /** Prepare for another answer: this one stays until the other has something to show. */
    expectAnother() {
      body.expectAnother();
      element.setAttribute("aria-busy", "true");
    },
    leave() {
      status.stop();
      cancelAnimationFrame(frame);
    },
  };
}

/** @param {Turn} turn */
function headingOf({ question }) {
  const heading = make("h2", { class: "question", dir: "auto" });
  if (question === "") {
    return label(heading, "linkedAnswer");
  }
  heading.textContent = question;
  return heading;
}

/**
 * @param {Readonly<AnswerState>} state
 * @param {Readonly<AnswerState>} next
 */
function announceChange(state, next) {
  if (next.phase !== state.phase || next.waitingFor?.what !== state.waitingFor?.what) {
    announce(sentenceOf(next) || (next.phase === "done" ? say("finished") : ""));
  }
}
