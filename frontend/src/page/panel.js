import { make } from "../markdown/elements.js";
import { conversationItem, erasedItem, nameOf, renameIn } from "./conversation-item.js";
import { dayOf } from "./days.js";
import { find } from "./elements.js";
import { createErasures, eraseOnServer } from "./erasing.js";
import { jsonOf, markdownOf, save } from "./export.js";
import { createPanelPlace } from "./panel-place.js";
import { label } from "./words.js";

/** @import { Conversation } from "./conversations.js" */

/**
 * @typedef {object} PanelParts
 * @property {() => Conversation[]} list
 * @property {() => boolean} hasUnreadable
 * @property {(conversation: Conversation) => boolean} isCurrent
 * @property {(conversation: Conversation) => boolean} isRunning
 * @property {(conversation: Conversation) => void} onOpen
 * @property {(conversation: Conversation, name: string) => void} onRename
 * @property {(conversation: Conversation) => void} onErase before it is erased on the server
 * @property {(conversation: Conversation) => void} onErased
 * @property {() => void} onEraseUnreadable
 */

/**
 * The list of earlier conversations.
 *
 * @param {PanelParts} parts
 */
export function createPanel(parts) {
  const { list, hasUnreadable } = parts;
  const nothing = find("#nothing", HTMLElement);
  const unreadable = find("#unreadable", HTMLElement);
  const notice = find("#erase-notice", HTMLElement);
  const all = eraseAllButton({
    onAsking: () => refresh(),
    onYes() {
      parts.onEraseUnreadable();
      eraseThese(list());
    },
  });

  const refresh = () => {
    const conversations = list();
    items.show(conversations);
    unreadable.hidden = !hasUnreadable();
    const empty = conversations.length === 0 && unreadable.hidden;
    nothing.hidden = !empty;
    all.show(!empty);
  };

  /** @param {Conversation[]} conversations */
  const eraseThese = async (conversations) => {
    notice.hidden = true;
    if (!(await erased(conversations, parts))) {
      label(notice, "notErased").hidden = false;
    }
    const hadFocus = find("#conversations-content", HTMLElement).contains(document.activeElement);
    refresh();
    if (hadFocus) {
      place.focus();
    }
  };

  const items = createItems({
    ...parts,
    onOpen(conversation) {
      place.leave();
      parts.onOpen(conversation);
    },
    // Unless the reader has asked more in it meanwhile.
    onErase: ({ id, turns }) => {
      const now = list().find((each) => each.id === id);
      if (now && now.turns.length <= turns.length) {
        eraseThese([now]);
      }
    },
    onChanged: () => refresh(),
  });
  const place = createPanelPlace({
    onOpening() {
      all.stopAsking();
      notice.hidden = true;
      refresh();
    },
  });
  return { refresh, open: place.open };
}

/**
 * Erase conversations here and on the server.
 *
 * @param {Conversation[]} conversations
 * @param {Pick<PanelParts, "onErase" | "onErased">} parts
 * @returns {Promise<boolean>} whether all are erased; those that are not stay
 */
async function erased(conversations, { onErase, onErased }) {
  let all = true;
  for (const conversation of conversations) {
    onErase(conversation);
    if (await eraseOnServer(conversation)) {
      onErased(conversation);
    } else {
      all = false;
    }
  }
  return all;
}

/**
 * The conversations by day, as far as they have the words that the reader looks for.
 *
 * @param {Pick<PanelParts, "isCurrent" | "isRunning" | "onOpen" | "onRename" | "onErase"> & {onChanged: () => void}} parts
 */
function createItems({ isCurrent, isRunning, onOpen, onRename, onErase, onChanged }) {
  const root = find("#list", HTMLElement);
  const search = find("#search", HTMLInputElement);
  const renaming = { isOn: false };
  const item = createItem(root, renaming, { isCurrent, isRunning, onOpen, onRename, onErase, onChanged });
  search.addEventListener("input", onChanged);

  return {
    /** @param {Conversation[]} conversations */
    show(conversations) {
      search.parentElement?.toggleAttribute("hidden", conversations.length === 0);
      if (renaming.isOn) {
        return; // the field would lose what is typed
      }
      const focused = document.activeElement instanceof HTMLElement && document.activeElement.dataset.place;
      const found = conversations.filter((conversation) => hasWords(conversation, search.value));
      root.replaceChildren(...daysOf(found, item));
      if (focused) {
        focusPlace(root, focused);
      }
    },
  };
}

/**
 * Return a function that makes a conversation's row.
 *
 * @param {HTMLElement} root
 * @param {{isOn: boolean}} renaming whether a name is being typed
 * @param {Parameters<typeof createItems>[0]} parts
 */
function createItem(root, renaming, { isCurrent, isRunning, onOpen, onRename, onErase, onChanged }) {
  let unfolded = "";
  const erasures = createErasures(onErase);

  /** @param {Conversation} conversation */
  const moreFor = (conversation) => ({
    /** @param {HTMLElement} place */
    rename(place) {
      renaming.isOn = true;
      renameIn(place, nameOf(conversation), (typed) => {
        renaming.isOn = false;
        unfolded = "";
        if (typed !== null) {
          onRename(conversation, typed);
        }
        onChanged();
      });
    },
    exportMarkdown: () => save(markdownOf(conversation), nameOf(conversation), "md", "text/markdown"),
    exportJson: () => save(jsonOf(conversation), nameOf(conversation), "json", "application/json"),
    erase() {
      unfolded = "";
      erasures.later(conversation);
      onChanged();
      focusPlace(root, `${conversation.id} undo`);
    },
  });

  /** @param {Conversation} conversation */
  return (conversation) => {
    const { id } = conversation;
    if (erasures.isWaiting(id)) {
      return erasedItem(conversation, () => {
        erasures.undo(id);
        onChanged();
      });
    }
    const state = {
      isCurrent: isCurrent(conversation),
      isRunning: isRunning(conversation),
      isUnfolded: unfolded === id,
    };
    return conversationItem(conversation, state, {
      onOpen: () => onOpen(conversation),
      onUnfold() {
        unfolded = unfolded === id ? "" : id;
        onChanged();
      },
      more: moreFor(conversation),
    });
  };
}

/** @param {HTMLElement} root @param {string} place */
function focusPlace(root, place) {
  const button = [...root.querySelectorAll("button")].find(({ dataset }) => dataset.place === place);
  button?.focus({ preventScroll: true });
}

/**
 * @param {Conversation} conversation
 * @param {string} sought
 */
function hasWords(conversation, sought) {
  const texts = conversation.turns.flatMap(({ question, kept }) => [question, kept?.text ?? ""]);
  const all = [nameOf(conversation), ...texts].join("\n").toLocaleLowerCase();
  return sought
    .toLocaleLowerCase()
    .split(/\s+/)
    .every((word) => all.includes(word));
}

/**
 * @param {Conversation[]} conversations newest first
 * @param {(conversation: Conversation) => HTMLElement} item
 */
function daysOf(conversations, item) {
  /** @type {Map<string, Conversation[]>} */
  const days = new Map();
  for (const conversation of conversations) {
    const day = dayOf(conversation.turns[0]?.askedAt ?? 0);
    days.set(day, [...(days.get(day) ?? []), conversation]);
  }
  return [...days].map(([day, those]) =>
    make("section", {}, make("h3", {}, day), make("ul", {}, ...those.map(item))),
  );
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
