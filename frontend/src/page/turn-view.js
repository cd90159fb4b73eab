import { FIRST_STATE } from "../client/state.js";
import { announce } from "./announcer.js";
import { copyButton } from "./copy.js";
import { make } from "./elements.js";
import { figuresOf } from "./figures.js";
import { createMarkdown } from "./markdown.js";
import { sentenceOf } from "./status.js";
import { formatNumber, label, say } from "./words.js";

/** @import { AnswerState } from "../client/state.js" */
/** @import { Turn } from "./conversations.js" */

const TICK_MS = 250;

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
  let reasoned = 0;
  let restartedAt = 0;
  let frame = 0;
  let pieces = newPieces();

  const reasoningText = make("div", { class: "thoughts", dir: "auto" });
  const reasoning = make(
    "details",
    { class: "reasoning", hidden: "" },
    label(make("summary"), "reasoning"),
    reasoningText,
  );
  const body = label(make("div", { class: "text", role: "group" }, pieces.root), "answer", "label");
  const sentence = make("span", { class: "sentence" });
  const elapsed = make("span", { class: "elapsed" });
  const status = make("p", { class: "status" }, sentence, elapsed);
  const figures = make("p", { class: "figures" });
  const copy = copyButton(() => state.text);
  const copyLink = copyButton(() => new URL(link(), location.href).href, "copyLink");
  const retry = label(make("button", { type: "button", class: "quiet" }), "retry");
  const goOn = label(make("button", { type: "button", class: "quiet strong" }), "goOn");
  const actions = make("div", { class: "actions", hidden: "" }, goOn, copy, copyLink, retry);
  const heading = make("h2", { class: "question", dir: "auto" });
  const element = make("article", { class: "turn" }, heading, reasoning, body, status, figures, actions);
  retry.addEventListener("click", onRetry);
  goOn.addEventListener("click", onGoOn);
  if (turn.question === "") {
    label(heading, "linkedAnswer");
  } else {
    heading.textContent = turn.question;
  }

  function newPieces() {
    const root = make("div", { class: "markdown" });
    return { root, markdown: createMarkdown(root) };
  }

  /** What was shown stays until there is something to show in its place. */
  const beginAnew = () => {
    const old = pieces.root;
    pieces = newPieces();
    old.replaceWith(pieces.root);
    reasoned = 0;
    reasoningText.textContent = "";
  };

  const draw = () => {
    frame = 0;
    if (state.restartedAt !== restartedAt && (state.text !== "" || state.phase === "done")) {
      restartedAt = state.restartedAt;
      beginAnew();
    }
    let isShown = true;
    if (state.restartedAt === restartedAt) {
      isShown = pieces.markdown.show(state.text, !state.following);
      if (reasoned < state.reasoning.length) {
        reasoningText.append(state.reasoning.slice(reasoned));
        reasoned = state.reasoning.length;
        reasoning.hidden = false;
      }
      if (!isShown) {
        later();
      }
    }
    element.setAttribute("aria-busy", String(state.following));
    // The end is not said before all of the text is shown.
    if (state.following || isShown) {
      refresh();
    }
    onGrown();
  };

  const later = () => {
    frame ||= requestAnimationFrame(draw);
  };

  const tick = () => {
    sentence.textContent = sentenceOf(state);
    const seconds = Math.floor((Date.now() - turn.askedAt) / 1000);
    elapsed.textContent =
      state.following && seconds > 0 ? say("elapsed", { seconds: formatNumber(seconds) }) : "";
  };

  const refresh = () => {
    status.dataset.phase = state.phase;
    tick();
    status.hidden = sentence.textContent === "";
    figures.textContent = figuresOf(state).join(" · ");
    figures.hidden = figures.textContent === "";
    const over = !state.following;
    actions.hidden = !over;
    copy.hidden = state.text === "";
    copyLink.hidden = turn.answer === null;
    retry.hidden = turn.question === "";
    goOn.hidden = !(state.failure?.of === "connection" && state.failure.retryable && turn.answer !== null);
  };

  /** @type {ReturnType<typeof setInterval> | undefined} */
  let ticking;

  /** @param {Readonly<AnswerState>} next */
  const show = (next) => {
    if (next.phase !== state.phase || next.waitingFor?.what !== state.waitingFor?.what) {
      announce((next.phase === "done" && say("finished")) || sentenceOf(next));
    }
    state = next;
    if (!state.following) {
      clearInterval(ticking);
      ticking = undefined;
    } else {
      ticking ??= setInterval(tick, TICK_MS);
    }
    later();
  };

  draw();
  return {
    element,
    show,
    refresh,
    /** Another answer takes this one's place, once it has something to show. */
    expectAnother() {
      restartedAt = -1;
      element.setAttribute("aria-busy", "true");
    },
    leave() {
      clearInterval(ticking);
      cancelAnimationFrame(frame);
    },
  };
}
