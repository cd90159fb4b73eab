import { Blocks } from "./blocks.js";
import { createContext } from "./context.js";
import { pieceOf } from "./text-nodes.js";

/** @import { Options } from "./options.js" */

/** Characters parsed in one frame, or as many as the open blocks have. After a reload, a long answer comes at once. */
const CHARACTERS_A_FRAME = 12_000;
/** Time for parsing and patching in one frame. Blocks that take n times as long are drawn in one of n frames. */
const MILLISECONDS_A_FRAME = 4;
/** Blocks as short as this are drawn in every frame: if they took long, the machine was busy or compiling the parser. */
const SHORT = 4000;

/**
 * Render streaming Markdown as DOM nodes. Only the open blocks at the end, which more text can change, are parsed again, and
 * only nodes that differ are changed. HTML is shown as text, and images as links.
 *
 * @param {HTMLElement} root gets the nodes
 * @param {Options} [options]
 */
export function createMarkdown(root, options = {}) {
  let blocks = new Blocks(createContext(options), root);
  let taken = 0;
  let millisecondsOwed = 0;
  let isWhole = false;

  /** @param {string} text */
  const take = (text) => {
    // A carriage return at the end may be the first half of a CR LF.
    const piece = pieceOf(text, taken, Math.max(CHARACTERS_A_FRAME, blocks.openLength)).replace(/\r$/, "");
    taken += piece.length;
    return piece.replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd");
  };
  const beginAnew = () => {
    root.replaceChildren();
    blocks = new Blocks(createContext(options), root);
    taken = 0;
    isWhole = false;
  };

  return {
    /**
     * Show as much of an answer's text as one frame allows. Call it in each frame until it returns true.
     *
     * @param {string} text all of the answer so far
     * @param {boolean} isEnd whether no more will come
     */
    show(text, isEnd) {
      millisecondsOwed = Math.max(0, millisecondsOwed - MILLISECONDS_A_FRAME);
      if (millisecondsOwed > 0 && !isEnd) {
        return false;
      }
      if (isWhole && taken < text.length) {
        beginAnew(); // it goes on after an end
      }
      const began = performance.now();
      const piece = take(text);
      const isTaken = taken >= text.length - (text.endsWith("\r") ? 1 : 0);
      const isLast = isEnd && isTaken && !isWhole;
      if (piece !== "" || isLast) {
        isWhole = isLast;
        const isShort = blocks.openLength + piece.length <= SHORT;
        blocks.add(piece, isWhole);
        millisecondsOwed = isShort ? 0 : performance.now() - began;
      }
      return isTaken;
    },
  };
}
