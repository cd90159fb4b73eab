import { copyButton } from "./copy.js";
import { make } from "./elements.js";
import { label } from "./words.js";

/** Beyond this, colours are not worth the wait. */
const LONGEST_HIGHLIGHTED = 50_000;

/**
 * A block of code with its language's name, a button to copy it, and colours once it is whole. The highlighter is loaded
 * for the first block that needs it.
 */
export function codeBlock() {
  const code = make("code");
  const name = make("span");
  const caption = make(
    "figcaption",
    {},
    name,
    copyButton(() => code.textContent ?? ""),
  );
  const text = label(make("pre", { tabindex: "0", role: "group", dir: "ltr" }, code), "code", "label");
  const figure = make("figure", { class: "code" }, caption, text);
  code.addEventListener("named", () => {
    name.textContent = (code.dataset.language ?? "").slice(0, 30);
  });
  code.addEventListener("whole", () => colour(code), { once: true });
  return { figure, code };
}

/** @param {HTMLElement} code */
async function colour(code) {
  const text = code.textContent ?? "";
  if (!code.dataset.language || text.length > LONGEST_HIGHLIGHTED) {
    return;
  }
  try {
    const { highlight } = await import("./highlighter.js");
    const nodes = highlight(text, code.dataset.language);
    if (nodes && code.textContent === text) {
      code.replaceChildren(nodes);
    }
  } catch {
    // Without colours it is still the code: the network may be gone.
  }
}
