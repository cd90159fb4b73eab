import { make } from "../markdown/elements.js";
import { announce } from "./announcer.js";
import { label, say } from "./words.js";

const SAID_MS = 2000;

/**
 * A button that copies a text when pressed, and shows whether it did.
 *
 * @param {() => string} text
 * @param {import("./words.js").Word} [word]
 */
export function copyButton(text, word = "copy") {
  const button = label(make("button", { type: "button", class: "quiet" }), word);
  button.addEventListener("click", async () => {
    const result = (await copy(text())) ? "copied" : "notCopied";
    label(button, result);
    announce(say(result));
    setTimeout(() => label(button, word), SAID_MS);
  });
  return button;
}

/**
 * @param {string} text
 * @returns {Promise<boolean>} whether it was copied
 */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyFromField(text); // without permission, or outside a secure context, where there is no clipboard
  }
}

/**
 * Copy with the older command, which copies the selection of the focused field.
 *
 * @param {string} text
 */
function copyFromField(text) {
  const focused = document.activeElement;
  const field = make("textarea", { class: "unseen", readonly: "" }); // readonly: opens no on-screen keyboard
  field.value = text;
  document.body.append(field);
  field.focus({ preventScroll: true });
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (focused instanceof HTMLElement) {
    focused.focus({ preventScroll: true });
  }
  return copied;
}
