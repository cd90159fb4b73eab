import { make } from "../markdown/elements.js";
import { locale, label, say } from "./words.js";

/** @import { Conversation } from "./conversations.js" */
/** @import { Word } from "./words.js" */

/**
 * @typedef {object} ItemState
 * @property {boolean} isCurrent whether it is on show
 * @property {boolean} isRunning whether one of its answers is running
 * @property {boolean} isUnfolded whether its actions are shown
 *
 * @typedef {object} ItemActions
 * @property {() => void} onOpen
 * @property {() => void} onUnfold shows its actions, or hides them
 * @property {Partial<Record<Word, (item: HTMLElement) => void>>} more by their words
 */

/** @param {Conversation} conversation */
export function nameOf({ name, turns: [first] }) {
  return name || first?.question || say("linkedAnswer");
}

/**
 * A conversation in the list: a button that opens it, and a button that unfolds further actions.
 *
 * @param {Conversation} conversation
 * @param {ItemState} state
 * @param {ItemActions} actions
 */
export function conversationItem(conversation, { isCurrent, isRunning, isUnfolded }, actions) {
  const name = nameOf(conversation);
  const asked = new Date(conversation.turns[0]?.askedAt ?? 0);
  const open = make(
    "button",
    { type: "button", class: "open", ...(isCurrent && { "aria-current": "true" }) },
    make("span", { class: "name", dir: "auto" }, name),
    make("time", {}, asked.toLocaleTimeString(locale(), { timeStyle: "short" })),
    ...(isRunning ? [label(make("span", { class: "running" }), "running")] : []),
  );
  const more = make("button", { type: "button", class: "quiet", "aria-expanded": String(isUnfolded) }, "⋯");
  more.ariaLabel = `${say("more")}: ${name}`;
  open.addEventListener("click", actions.onOpen);
  more.addEventListener("click", actions.onUnfold);
  const item = make("li", {}, open, more);
  for (const [word, act] of isUnfolded ? Object.entries(actions.more) : []) {
    const button = label(make("button", { type: "button", class: "quiet" }), /** @type {Word} */ (word));
    button.ariaLabel = `${button.textContent}: ${name}`;
    button.addEventListener("click", () => act(item));
    item.append(button);
  }
  // A list that is drawn anew finds the focused button again.
  for (const [number, button] of item.querySelectorAll("button").entries()) {
    button.dataset.place = `${conversation.id} ${number}`;
  }
  return item;
}

/**
 * What stands in a conversation's place as long as its erasure can be undone.
 *
 * @param {Conversation} conversation
 * @param {() => void} onUndo
 */
export function erasedItem(conversation, onUndo) {
  const name = nameOf(conversation);
  const said = `${say("erased")} ${name}`;
  const undo = label(make("button", { type: "button", class: "quiet strong" }), "undo");
  undo.ariaLabel = `${undo.textContent}: ${said}`;
  undo.dataset.place = `${conversation.id} undo`;
  undo.addEventListener("click", onUndo);
  return make("li", {}, make("span", { class: "erased", dir: "auto" }, said), undo);
}

/**
 * Let the reader type a conversation's name in place of its row.
 *
 * @param {HTMLElement} item
 * @param {string} name the one so far
 * @param {(name: string | null) => void} onDone called once; null if the reader changed nothing
 */
export function renameIn(item, name, onDone) {
  const field = label(make("input", { type: "text", maxlength: "200", dir: "auto" }), "rename", "label");
  field.value = name;
  let isDone = false;
  const end = (/** @type {string | null} */ typed) => {
    if (!isDone) {
      isDone = true;
      onDone(typed?.trim() || null);
    }
  };
  field.addEventListener("keydown", (key) => {
    if (key.key === "Enter" && !key.isComposing) {
      end(field.value);
    } else if (key.key === "Escape") {
      key.preventDefault(); // neither closes the list nor stops an answer
      end(null);
    }
  });
  field.addEventListener("blur", () => end(field.value));
  item.replaceChildren(field);
  field.select();
}
