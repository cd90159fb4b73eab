import { make } from "../markdown/elements.js";
import { createAnswerText } from "./answer-text.js";
import { label } from "./words.js";

/** @import { AnswerState } from "../client/state.js" */

/** An answer's reasoning and text, drawn as they grow. */
export function createAnswerBody() {
  let pieces = newPieces();
  let restartedAt = 0;
  const reasoning = createReasoning();
  const text = label(make("div", { class: "text", role: "group" }, pieces.root), "answer", "label");

  /** Replace what is shown with an empty body. @param {Readonly<AnswerState>} state */
  const beginAnew = (state) => {
    restartedAt = state.restartedAt;
    const old = pieces.root;
    pieces = newPieces();
    old.replaceWith(pieces.root);
    reasoning.clear();
  };

  return {
    reasoning: reasoning.element,
    text,
    /**
     * Draw as much as one frame allows. Call it in each frame until it returns true.
     *
     * @param {Readonly<AnswerState>} state
     * @returns {boolean} whether everything is drawn
     */
    draw(state) {
      if (state.restartedAt !== restartedAt && (state.text !== "" || state.phase === "done")) {
        beginAnew(state);
      }
      if (state.restartedAt !== restartedAt) {
        return true;
      }
      reasoning.show(state.reasoning);
      return pieces.answerText.show(state.text, !state.following);
    },
    /** Prepare for another answer: this one stays until the other has something to show. */
    expectAnother() {
      restartedAt = -1;
    },
  };
}

function newPieces() {
  const root = make("div", { class: "markdown" });
  return { root, answerText: createAnswerText(root) };
}

function createReasoning() {
  const thoughts = make("div", { class: "thoughts", dir: "auto" });
  const element = make(
    "details",
    { class: "reasoning", hidden: "" },
    label(make("summary"), "reasoning"),
    thoughts,
  );
  let shown = 0;
  return {
    element,
    /** @param {string} reasoning all of it so far */
    show(reasoning) {
      if (shown < reasoning.length) {
        thoughts.append(reasoning.slice(shown));
        shown = reasoning.length;
        element.hidden = false;
      }
    },
    clear() {
      thoughts.textContent = "";
      shown = 0;
    },
  };
}
