import { make } from "../markdown/elements.js";
import { nameOf } from "./conversation-item.js";
import { sentenceOf } from "./status.js";

/** @import { Conversation } from "./conversations.js" */

/**
 * Return a conversation as Markdown: questions as quotations, answers as they are.
 *
 * @param {Conversation} conversation
 */
export function markdownOf(conversation) {
  const turns = conversation.turns.map(({ question, kept }) => {
    const quoted = question.replace(/^/gm, "> ");
    const ending = kept ? sentenceOf({ ...kept, waitingFor: null }) : "…";
    return [quoted, kept?.text.trim(), ending && `*${ending}*`].filter(Boolean).join("\n\n");
  });
  const [title] = nameOf(conversation).split("\n");
  return [`# ${title}`, ...turns].join("\n\n") + "\n";
}

/**
 * Return a conversation as JSON: its questions, its answers' texts, and how they ended.
 *
 * @param {Conversation} conversation
 */
export function jsonOf(conversation) {
  return JSON.stringify({ format: "folyam.conversation/1", ...conversation }, null, 2) + "\n";
}

/**
 * Save a text as a file, where the browser saves downloads.
 *
 * @param {string} text
 * @param {string} name without what the file's systems forbid in names
 * @param {string} ending
 * @param {string} type
 */
export function save(text, name, ending, type) {
  const plain = name.replace(/[\p{C}\s<>:"/\\|?*]+/gu, " ").trim();
  const file = `${[...plain].slice(0, 60).join("").trim() || "folyam"}.${ending}`;
  const href = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href, download: file }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}
