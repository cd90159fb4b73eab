import { find } from "./elements.js";
import { ROOM_BESIDE } from "./room.js";
import { label } from "./words.js";

/** @import { createPanel, PanelParts } from "./panel.js" */

/**
 * The list of conversations, whose script is loaded where there is room beside the text, else when the reader opens it.
 *
 * @param {PanelParts} parts
 */
export function panelOnDemand(parts) {
  const notLoaded = find("#not-loaded", HTMLElement);
  const room = matchMedia(ROOM_BESIDE);
  /** @type {ReturnType<typeof createPanel> | undefined} */
  let panel;

  const load = async () => {
    try {
      const { createPanel } = await import("./panel.js");
      panel ??= createPanel(parts);
    } catch {
      // Without a network.
    }
    label(notLoaded, "notLoaded").hidden = panel !== undefined;
    return panel;
  };
  const loadIfRoom = () => {
    if (room.matches) {
      load();
    }
  };
  find("#open-conversations", HTMLButtonElement).addEventListener("click", async () =>
    (await load())?.open(),
  );
  room.addEventListener("change", loadIfRoom);
  loadIfRoom();
  return { refresh: () => panel?.refresh() };
}
