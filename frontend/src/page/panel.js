import { make } from "../markdown/elements.js";
import { find } from "./elements.js";
import { eraseOnServer } from "./erasing.js";
import { locale, label, say } from "./words.js";

/** @import { Conversation } from "./conversations.js" */

/**
 * The list of earlier conversations.
 *
 * @param {object} parts
 * @param {() => Conversation[]} parts.list
 * @param {() => boolean} parts.hasUnreadable
 * @param {(conversation: Conversation) => void} parts.onOpen
 * @param {(conversation: Conversation) => void} parts.onErase before it is erased on the server
 * @param {(conversation: Conversation) => void} parts.onErased
 * @param {() => void} parts.onEraseUnreadable
 */
export function createPanel({ list, hasUnreadable, onOpen, onErase, onErased, onEraseUnreadable }) {
  const dialog = find("#conversations", HTMLDialogElement);
  const close = find("#close-conversations", HTMLButtonElement);
  const items = find("#list", HTMLUListElement);
  const nothing = find("#nothing", HTMLElement);
  const unreadable = find("#unreadable", HTMLElement);
  const notice = find("#erase-notice", HTMLElement);
  const all = eraseAllButton({
    onAsking: () => refresh(),
    onYes() {
      onEraseUnreadable();
      eraseThese(list());
    },
  });

  const refresh = () => {
    const conversations = list();
    items.replaceChildren(...conversations.map(item));
    unreadable.hidden = !hasUnreadable();
    const empty = conversations.length === 0 && unreadable.hidden;
    nothing.hidden = !empty;
    all.show(!empty);
  };

  /** @param {Conversation} conversation */
  const item = (conversation) =>
    itemOf(conversation, {
      onOpen() {
        dialog.close();
        onOpen(conversation);
      },
      onErase: () => eraseThese([conversation]),
    });

  /** @param {Conversation[]} conversations */
  const eraseThese = async (conversations) => {
    notice.hidden = true;
    for (const conversation of conversations) {
      onErase(conversation);
      if (await eraseOnServer(conversation)) {
        onErased(conversation);
      } else {
        label(notice, "notErased").hidden = false;
      }
    }
    refresh();
    close.focus();
  };

  close.addEventListener("click", () => dialog.close());
  closeOnClickBeside(dialog);
  find("#open-conversations", HTMLButtonElement).addEventListener("click", () => {
    all.stopAsking();
    notice.hidden = true;
    refresh();
    dialog.showModal();
  });
  return { refresh };
}

/** @param {HTMLDialogElement} dialog */
function closeOnClickBeside(dialog) {
  dialog.addEventListener("click", ({ target }) => {
    if (target === dialog) {
      dialog.close();
    }
  });
}

/**
 * The button that erases all, and the question that it asks first.
 *
 * @param {{onAsking: () => void, onYes: () => void}} actions `onAsking` when the question has come or gone
 */
function eraseAllButton({ onAsking, onYes }) {
  const button = find("#erase-all", HTMLButtonElement);
  const sure = find("#erase-sure", HTMLElement);
  const no = find("#erase-no", HTMLButtonElement);
  /** @param {boolean} asking */
  const ask = (asking) => {
    sure.hidden = !asking;
    onAsking();
    (asking ? no : button).focus(); // a second Enter erases nothing
  };
  button.addEventListener("click", () => ask(true));
  no.addEventListener("click", () => ask(false));
  find("#erase-yes", HTMLButtonElement).addEventListener("click", () => {
    ask(false);
    onYes();
  });
  return {
    /** @param {boolean} isSomething whether there is something to erase */
    show(isSomething) {
      button.hidden = !isSomething || !sure.hidden;
    },
    stopAsking() {
      sure.hidden = true;
    },
  };
}

/**
 * A conversation in the list, with the buttons that open and erase it.
 *
 * @param {Conversation} conversation
 * @param {{onOpen: () => void, onErase: () => void}} actions
 */
function itemOf(conversation, { onOpen, onErase }) {
  const [first] = conversation.turns;
  const title = make("span", { class: "name", dir: "auto" }, first?.question || say("linkedAnswer"));
  const when = make(
    "time",
    {},
    new Date(first?.askedAt ?? 0).toLocaleString(locale(), {
      dateStyle: "medium",
      timeStyle: "short",
    }),
  );
  const open = make("button", { type: "button", class: "open" }, title, when);
  const erase = label(make("button", { type: "button", class: "quiet" }), "erase");
  erase.setAttribute("aria-label", `${say("erase")}: ${title.textContent}`);
  open.addEventListener("click", onOpen);
  erase.addEventListener("click", onErase);
  return make("li", {}, open, erase);
}
