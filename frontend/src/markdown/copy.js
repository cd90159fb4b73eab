import { make } from "./elements.js";
import { ENGLISH } from "./english.js";

/** A button that copies a text. @param {() => string} text @returns {HTMLElement} */
export function plainCopyButton(text) {
  const button = make("button", { type: "button" }, ENGLISH.copy);
  button.addEventListener("click", () => {
    // Without permission nothing is copied. The text can still be selected.
    navigator.clipboard?.writeText(text()).catch(() => {});
  });
  return button;
}
