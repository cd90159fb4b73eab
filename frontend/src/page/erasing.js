/** @import { Conversation } from "./conversations.js" */

/** The time in which an erasure can be undone. */
const UNDO_MS = 6000;

/**
 * Conversations that the reader has erased and can still have back. The server is asked when the time is over, or when the
 * page is left.
 *
 * @param {(conversation: Conversation) => void} erase
 */
export function createErasures(erase) {
  /** @type {Map<string, () => void>} */
  const waiting = new Map();
  addEventListener("pagehide", () => {
    for (const eraseNow of waiting.values()) {
      eraseNow();
    }
  });
  return {
    /** @param {string} id */
    isWaiting: (id) => waiting.has(id),
    /** @param {Conversation} conversation */
    later(conversation) {
      const eraseNow = () => {
        if (waiting.get(conversation.id) === eraseNow) {
          waiting.delete(conversation.id);
          erase(conversation);
        }
      };
      waiting.set(conversation.id, eraseNow);
      setTimeout(eraseNow, UNDO_MS);
    },
    /** @param {string} id */
    undo: (id) => waiting.delete(id),
  };
}

/**
 * Erase a conversation's answers on the server. An answer that the server no longer knows counts as erased.
 *
 * @param {Conversation} conversation
 * @returns {Promise<boolean>} whether all of them are erased
 */
export async function eraseOnServer({ turns }) {
  const erased = await Promise.all(
    turns.map(async ({ answer }) => {
      if (answer === null) {
        return true;
      }
      try {
        const { ok, status } = await fetch(`/answers/${encodeURIComponent(answer)}`, {
          method: "DELETE",
          keepalive: true, // also when the page is being left
        });
        return ok || status === 404;
      } catch {
        return false;
      }
    }),
  );
  return erased.every(Boolean);
}
