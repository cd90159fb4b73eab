/** `<folyam-answer>`: an answer in any page. See docs/client.md. */
import { openAnswer } from "../client/index.js";
import { createMarkdown } from "../markdown/index.js";

/** @import { Answer, AnswerState, Question, Resumption } from "../client/index.js" */
/** @import { MarkdownOptions } from "../markdown/index.js" */

/** Where there is no DOM, the module can be loaded all the same. */
const Base = globalThis.HTMLElement ?? /** @type {typeof HTMLElement} */ (class {});

/**
 * Shows an answer as it is written.
 *
 * Attributes: `url`, the service's address (by default the page's origin); `answer`, the id of an answer to follow. A question
 * is asked by the method `ask`, never by an attribute, because each one is paid for. After each change of the answer's
 * state, the element has it as `state`, has its phase as the attribute `phase`, and dispatches `change`.
 *
 * Its nodes are its own children, without a shadow root, so that the page's styles hold.
 */
export class FolyamAnswer extends Base {
  static observedAttributes = ["answer"];

  /** @type {Readonly<AnswerState> | null} the answer's state; null before the first one */
  state = null;
  /** @type {MarkdownOptions} for the renderer of the next answer */
  markdown = {};
  /** @type {Answer | null} */
  #answer = null;
  #drawing = 0;

  /**
   * Ask a question, or follow an answer by its id, in place of the answer that is shown.
   *
   * @param {Question | Resumption} request
   */
  ask(request) {
    this.#leave();
    const url = this.getAttribute("url");
    const answer = openAnswer(request, url === null ? {} : { url: new URL(url, this.ownerDocument.baseURI) });
    this.#answer = answer;
    const draw = this.#drawn();
    const show = () => {
      this.state = answer.state;
      this.setAttribute("phase", answer.state.phase);
      draw();
      this.dispatchEvent(new Event("change"));
    };
    answer.subscribe(show);
    show();
    return answer;
  }

  /** Stop the answer, for all of its followers. */
  async stop() {
    await this.#answer?.stop();
  }

  connectedCallback() {
    this.#followAttribute();
  }

  disconnectedCallback() {
    this.#leave();
  }

  attributeChangedCallback() {
    if (this.isConnected) {
      this.#followAttribute();
    }
  }

  #followAttribute() {
    const id = this.getAttribute("answer");
    if (id && id !== this.#answer?.state.id) {
      this.ask({ answer: id });
    }
  }

  #leave() {
    cancelAnimationFrame(this.#drawing);
    const left = this.#answer;
    this.#answer = null;
    if (left?.state.following) {
      left.abort();
    }
  }

  /** Empty the element; return a function that draws the state, a frame at a time. */
  #drawn() {
    const text = this.ownerDocument.createElement("div");
    const failure = this.ownerDocument.createElement("p");
    failure.className = "failure";
    failure.setAttribute("role", "alert");
    failure.hidden = true;
    this.replaceChildren(text, failure);
    let markdown = createMarkdown(text, this.markdown);
    let restartedAt = 0;

    const draw = () => {
      const state = /** @type {AnswerState} */ (this.state);
      if (state.restartedAt !== restartedAt) {
        restartedAt = state.restartedAt;
        text.replaceChildren();
        markdown = createMarkdown(text, this.markdown);
      }
      failure.hidden = !state.failure;
      failure.textContent = state.failure?.message ?? "";
      if (!markdown.show(state.text, !state.following)) {
        this.#drawing = requestAnimationFrame(draw);
      }
    };
    return () => {
      cancelAnimationFrame(this.#drawing);
      this.#drawing = requestAnimationFrame(draw);
    };
  }
}

if (globalThis.customElements && !customElements.get("folyam-answer")) {
  customElements.define("folyam-answer", FolyamAnswer);
}
