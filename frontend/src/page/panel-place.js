import { find } from "./elements.js";
import { ROOM_BESIDE } from "./room.js";
import { readStored, store } from "./storage.js";

const CHOICE = "folyam.list";

/**
 * The place of the list of conversations: beside the text where there is room, until the reader closes it; else in a dialog.
 *
 * @param {object} actions
 * @param {() => void} actions.onOpening
 */
export function createPanelPlace({ onOpening }) {
  const dialog = find("#conversations", HTMLDialogElement);
  const aside = find("#beside", HTMLElement);
  const content = find("#conversations-content", HTMLElement);
  const opener = find("#open-conversations", HTMLButtonElement);
  const closer = find("#close-conversations", HTMLButtonElement);
  const room = matchMedia(ROOM_BESIDE);

  const settle = () => {
    dialog.close();
    (room.matches ? aside : dialog).append(content);
    opener.ariaHasPopup = room.matches ? null : "dialog";
    aside.hidden = !room.matches || readStored(CHOICE) === "closed";
    onOpening();
  };
  closer.addEventListener("click", () => {
    if (room.matches) {
      store(CHOICE, "closed");
      aside.hidden = true;
      opener.focus();
    } else {
      dialog.close();
    }
  });
  dialog.addEventListener("click", ({ target }) => {
    if (target === dialog) {
      dialog.close(); // a click beside it
    }
  });
  room.addEventListener("change", settle);
  settle();
  return {
    open() {
      onOpening();
      if (room.matches) {
        store(CHOICE, "open");
        aside.hidden = false;
        closer.focus();
      } else {
        dialog.showModal();
      }
    },
    /** Give the text its place back, where the list covers it. */
    leave: () => dialog.close(),
    focus: () => closer.focus(),
  };
}
