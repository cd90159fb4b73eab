/** Markdown that streams, as DOM nodes. See docs/markdown.md. */
export { createMarkdown } from "./markdown.js";
/** @typedef {import("./options.js").Options} MarkdownOptions */
