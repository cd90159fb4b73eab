import { make } from "../markdown/elements.js";
import { find } from "./elements.js";
import { readStored, store } from "./storage.js";

const CHOICE = "folyam.model";

/** The model to ask: its name, or a list if the service offers several. Its line has its height before either is known. */
export function createModelPicker() {
  const name = find("#model-name", HTMLElement);
  const select = find("#model", HTMLSelectElement);
  select.addEventListener("change", () => store(CHOICE, select.value));

  return {
    /** @param {string[]} models the usual one first */
    offer(models) {
      const chosen = readStored(CHOICE);
      select.replaceChildren(...models.map((model) => make("option", { value: model }, model)));
      select.value = chosen !== null && models.includes(chosen) ? chosen : String(models[0]);
      name.textContent = models[0] ?? "";
      select.hidden = models.length < 2;
      name.hidden = !select.hidden;
    },
    /** The model to name in a question; null for the usual one. */
    get chosen() {
      return select.options.length > 1 && select.selectedIndex > 0 ? select.value : null;
    },
  };
}
