import { make } from "../markdown/elements.js";
import { createAnswerText } from "./answer-text.js";
import { label } from "./words.js";

/** @import { AnswerState, ToolCall } from "../client/state.js" */

/** An answer's reasoning, text and calls of tools, drawn as they grow. */
export function createAnswerBody() {
  let pieces = newPieces();
  let restartedAt = 0;
  const reasoning = createReasoning();
  const toolCalls = createToolCalls();
  const text = label(make("div", { class: "text", role: "group" }, pieces.root), "answer", "label");

  /** Replace what is shown with an empty body. @param {Readonly<AnswerState>} state */
  const beginAnew = (state) => {
    restartedAt = state.restartedAt;
    const old = pieces.root;
    pieces = newPieces();
    old.replaceWith(pieces.root);
    reasoning.clear();
    toolCalls.clear();
  };

  return {
    reasoning: reasoning.element,
    text,
    toolCalls: toolCalls.element,
    /**
     * Draw as much as one frame allows. Call it in each frame until it returns true.
     *
     * @param {Readonly<AnswerState>} state
     * @returns {boolean} whether everything is drawn
     */
    draw(state) {
      const hasBegun = state.text !== "" || state.toolCalls.length > 0 || state.phase === "done";
      if (state.restartedAt !== restartedAt && hasBegun) {
        beginAnew(state);
      }
      if (state.restartedAt !== restartedAt) {
        return true;
      }
      reasoning.show(state.reasoning);
      toolCalls.show(state.toolCalls);
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

/** The calls of tools, each folded away behind its name. */
function createToolCalls() {
  const element = make("div", { class: "tool-calls", hidden: "" });
  /** @type {{json: HTMLElement, shown: number}[]} */
  let views = [];
  /** @param {ToolCall} call */
  const add = ({ name }) => {
    const json = make("code", { dir: "ltr" });
    const summary = make(
      "summary",
      {},
      label(make("span"), "toolCall"),
      " ",
      make("code", { dir: "ltr" }, name),
    );
    element.append(make("details", { class: "tool-call" }, summary, make("pre", {}, json)));
    element.hidden = false;
    const view = { json, shown: 0 };
    views.push(view);
    return view;
  };
  return {
    element,
    /** @param {readonly ToolCall[]} calls all of them so far */
    show(calls) {
      calls.forEach((call, place) => {
        const view = views[place] ?? add(call);
        if (view.shown < call.arguments.length) {
          view.json.append(call.arguments.slice(view.shown));
          view.shown = call.arguments.length;
        }
      });
    },
    clear() {
      element.replaceChildren();
      element.hidden = true;
      views = [];
    },
  };
}
