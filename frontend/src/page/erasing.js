/** @import { Conversation } from "./conversations.js" */

/**
 * Erases a conversation's answers on the server. An answer that the server no longer knows is erased.
 *
 * @param {Conversation} conversation
 * @returns {Promise<boolean>} whether nothing of it is left there
 */
export async function eraseOnServer({ turns }) {
  const erased = await Promise.all(
    turns.map(async ({ answer }) => {
      if (answer === null) {
        return true;
      }
      try {
        const { ok, status } = await fetch(`/answers/${encodeURIComponent(answer)}`, { method: "DELETE" });
        return ok || status === 404;
      } catch {
        return false;
      }
    }),
  );
  return erased.every(Boolean);
}
