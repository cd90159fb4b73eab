import { make } from "../markdown/elements.js";
import { copyButton } from "./copy.js";
import { label } from "./words.js";

/** @import { MarkdownOptions } from "../markdown/index.js" */

/** The question is a heading of this level. */
const QUESTION_HEADING = 2;

/**
 * Loaded by itself, because it is twice as large as the rest of the page: undefined while it loads, null if it cannot be
 * loaded.
 *
 * @type {typeof import("../markdown/index.js") | null | undefined}
 */
let renderer;
export const rendererLoaded = import("../markdown/index.js").then(
  (loaded) => {
    renderer = loaded;
  },
  () => {
    renderer = null;
  },
);

/** @type {MarkdownOptions} */
const OPTIONS = {
  // Levels are not skipped, for readers who navigate by headings.
  headingLevel: (level, previous) =>
    Math.min(level + QUESTION_HEADING, Math.max(previous, QUESTION_HEADING) + 1),
  label,
  copyButton,
};

/**
 * An answer's text, rendered as Markdown, or shown as it is if the renderer cannot be loaded.
 *
 * @param {HTMLElement} root
 */
export function createAnswerText(root) {
  /** @type {ReturnType<typeof import("../markdown/index.js").createMarkdown> | null} */
  let markdown = null;

  return {
    /**
     * Show as much as one frame allows. Call it in each frame until it returns true.
     *
     * @param {string} text all of the answer so far
     * @param {boolean} isEnd whether no more will come
     */
    show(text, isEnd) {
      if (renderer === undefined) {
        return false;
      }
      if (renderer === null) {
        showPlain(root, text);
        return true;
      }
      markdown ??= renderer.createMarkdown(root, OPTIONS);
      return markdown.show(text, isEnd);
    },
  };
}

/** @param {HTMLElement} root @param {string} text */
function showPlain(root, text) {
  const plain = root.firstElementChild ?? root.appendChild(make("p", { class: "plain", dir: "auto" }));
  plain.append(text.slice(plain.textContent?.length ?? 0));
}
