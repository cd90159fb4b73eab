import { find } from "./elements.js";
import { charactersIn, USUAL } from "./limits.js";
import { createNextQuestion } from "./next-question.js";
import { isOfComposition } from "./presses.js";
import { readDraft, storeDraft } from "./storage.js";
import { formatNumber, say } from "./words.js";

const query = find("#query", HTMLTextAreaElement);
const tooLong = find("#too-long", HTMLElement);

/**
 * The box for questions. What is typed is kept over a reload. A question that is sent while an answer runs waits for its end.
 *
 * @param {object} actions
 * @param {() => boolean} actions.isRunning whether the conversation's last answer is running
 * @param {(question: string) => void} actions.onAsk
 */
export function createQuestionBox({ isRunning, onAsk }) {
  let most = USUAL.queryCharacters;
  const changed = () => {
    query.rows = Math.min(8, Math.max(1, query.value.split("\n").length, Math.ceil(query.value.length / 60)));
    storeDraft(query.value);
    showLength(most);
  };
  /** @param {string} text */
  const write = (text) => {
    query.value = text;
    changed();
  };
  const next = createNextQuestion({
    onAsk,
    onTakenBack: (question) => write([question, query.value].filter((text) => text !== "").join("\n\n")),
  });

  find("#ask", HTMLFormElement).onsubmit = (submission) => {
    submission.preventDefault();
    const question = query.value.trim();
    const use = isRunning() ? next.set : onAsk;
    if (question !== "" && charactersIn(question) <= most && (next.isFree() || use === onAsk)) {
      write("");
      use(question);
    }
  };
  query.addEventListener("input", changed);
  query.addEventListener("keydown", submitOnEnter);
  find("#take-back", HTMLButtonElement).addEventListener("click", () => {
    next.takeBack();
    query.focus();
  });
  write(query.value || (readDraft() ?? ""));

  return {
    takeBack: next.takeBack,
    answerEnded: next.answerEnded,
    focus: () => query.focus(),
    refresh: () => showLength(most),
    /** @param {number} characters */
    limit(characters) {
      most = characters;
      showLength(most);
    },
  };
}

/** @param {number} most the number of characters that can be sent */
function showLength(most) {
  const count = charactersIn(query.value.trim());
  tooLong.hidden = count <= most;
  tooLong.textContent =
    count <= most ? "" : say("tooLong", { count: formatNumber(count), most: formatNumber(most) });
}

/** @param {KeyboardEvent} key */
function submitOnEnter(key) {
  if (key.key === "Enter" && !key.shiftKey && !isOfComposition(key)) {
    key.preventDefault();
    if (!key.repeat) {
      query.form?.requestSubmit();
    }
  }
}
