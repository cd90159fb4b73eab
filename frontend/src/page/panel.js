import { find, make } from "./elements.js";
import { eraseOnServer } from "./erasing.js";
import { currentLanguage, label, say } from "./words.js";

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
  const items = find("#list", HTMLUListElement);
  const nothing = find("#nothing", HTMLElement);
  const unreadable = find("#unreadable", HTMLElement);
  const notice = find("#erase-notice", HTMLElement);
  const eraseAll = find("#erase-all", HTMLButtonElement);
  const sure = find("#erase-sure", HTMLElement);

  const refresh = () => {
    const conversations = list();
    items.replaceChildren(
      ...conversations.map((conversation) =>
        itemOf(conversation, { onOpen: open, onErase: () => eraseThese([conversation]) }),
      ),
    );
    unreadable.hidden = !hasUnreadable();
    const empty = conversations.length === 0 && unreadable.hidden;
    nothing.hidden = !empty;
    eraseAll.hidden = empty || !sure.hidden;
  };

  /** @param {Conversation} conversation */
  const open = (conversation) => {
    dialog.close();
    onOpen(conversation);
  };

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
    find("#close-conversations", HTMLButtonElement).focus();
  };

  askBeforeErasing(refresh, () => {
    onEraseUnreadable();
    eraseThese(list());
  });
  find("#close-conversations", HTMLButtonElement).addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (click) => {
    if (click.target === dialog) {
      dialog.close(); // beside it
    }
  });
  find("#open-conversations", HTMLButtonElement).addEventListener("click", () => {
    sure.hidden = true;
    notice.hidden = true;
    refresh();
    dialog.showModal();
  });
  return { refresh };
}

/**
 * The button that erases all, and the question that it asks first.
 *
 * @param {() => void} onChange the question has come or gone
 * @param {() => void} onYes
 */
function askBeforeErasing(onChange, onYes) {
  const sure = find("#erase-sure", HTMLElement);
  const eraseAll = find("#erase-all", HTMLButtonElement);
  const no = find("#erase-no", HTMLButtonElement);
  /** @param {boolean} asking */
  const ask = (asking) => {
    sure.hidden = !asking;
    onChange();
    (asking ? no : eraseAll).focus(); // a second Enter erases nothing
  };
  eraseAll.addEventListener("click", () => ask(true));
  no.addEventListener("click", () => ask(false));
  find("#erase-yes", HTMLButtonElement).addEventListener("click", () => {
    ask(false);
    onYes();
  });
}

/**
 * A conversation in the list, with the buttons that open and erase it.
 *
 * @param {Conversation} conversation
 * @param {{onOpen: (conversation: Conversation) => void, onErase: () => void}} actions
 */
function itemOf(conversation, { onOpen, onErase }) {
  const [first] = conversation.turns;
  const title = make("span", { class: "name", dir: "auto" }, first?.question || say("linkedAnswer"));
  const when = make(
    "time",
    {},
    new Date(first?.askedAt ?? 0).toLocaleString(currentLanguage(), {
      dateStyle: "medium",
      timeStyle: "short",
    }),
  );
  const open = make("button", { type: "button", class: "open" }, title, when);
  const erase = label(make("button", { type: "button", class: "quiet" }), "erase");
  erase.setAttribute("aria-label", `${say("erase")}: ${title.textContent}`);
  open.addEventListener("click", () => onOpen(conversation));
  erase.addEventListener("click", onErase);
  return make("li", {}, open, erase);
}
