/** @import { Conversation } from "./conversations.js" */

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
        const { ok, status } = await fetch(`/answers/${encodeURIComponent(answer)}`, { method: "DELETE" });
        return ok || status === 404;
      } catch {
        return false;
      }
    }),
  );
  return erased.every(Boolean);
}
