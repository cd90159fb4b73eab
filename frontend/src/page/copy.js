import { make } from "./elements.js";
import { announce } from "./announcer.js";
import { label, say } from "./words.js";

const SAID_MS = 2000;

/**
 * A button that copies what it is given when pressed, and says so.
 *
 * @param {() => string} text
 * @param {import("./words.js").Word} [word]
 */
export function copyButton(text, word = "copy") {
  const button = label(make("button", { type: "button", class: "quiet" }), word);
  button.addEventListener("click", async () => {
    /** @type {import("./words.js").Word} */
    let result = "copied";
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      result = "notCopied"; // no permission, or no secure context
    }
    label(button, result);
    announce(say(result));
    setTimeout(() => label(button, word), SAID_MS);
  });
  return button;
}
