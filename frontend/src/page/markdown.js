import { make } from "./elements.js";
import { patchAll } from "./patch.js";
import { appendText, pieceOf } from "./text-nodes.js";

/** @import { Block } from "./views.js" */

/** Characters parsed in one frame, or as many as the open blocks have. After a reload, a long answer comes at once. */
const CHARACTERS_A_FRAME = 12_000;
/** Time for parsing and patching in one frame. Blocks that take n times as long are drawn in one of n frames. */
const MILLISECONDS_A_FRAME = 4;
/** Blocks as short as this are drawn in every frame: if they took long, the machine was busy or compiling the parser. */
const SHORT = 4000;

/**
 * Blocks are grouped in parts of this many. Laying out a growing answer, a browser skips a part without changes, but visits
 * every block of a flat list: with 20,000 paragraphs a frame took 66 ms flat, and takes 17 ms in parts.
 */
const BLOCKS_A_PART = 64;
/** The question is a heading of this level. */
const QUESTION_HEADING = 2;

/**
 * Loaded by itself, because it is twice as large as the rest of the page: undefined while it loads, null if it cannot be
 * loaded.
 *
 * @type {typeof import("./views.js") | null | undefined}
 */
let parser;
export const parserLoaded = import("./views.js").then(
  (loaded) => {
    parser = loaded;
  },
  () => {
    parser = null;
  },
);

/**
 * Render streaming Markdown as DOM nodes. Only the open blocks at the end, which more text can change, are parsed again, and
 * only nodes that differ are changed.
 *
 * @param {HTMLElement} root
 */
export function createMarkdown(root) {
  const blocks = createBlocks(root);
  let taken = 0;
  let millisecondsOwed = 0;
  let isWhole = false;

  /** @param {string} text */
  const take = (text) => {
    // A carriage return at the end may be the first half of a CR LF.
    const piece = pieceOf(text, taken, Math.max(CHARACTERS_A_FRAME, blocks.openLength)).replace(/\r$/, "");
    taken += piece.length;
    return piece.replace(/\r\n?/g, "\n");
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
      if (parser === undefined || (millisecondsOwed > 0 && !isEnd)) {
        return false;
      }
      const began = performance.now();
      const piece = take(text);
      const isTaken = taken >= text.length - (text.endsWith("\r") ? 1 : 0);
      const isLast = isEnd && isTaken && !isWhole;
      if (blocks.isPlain) {
        blocks.addPlain(piece);
      } else if (piece !== "" || isLast) {
        isWhole = isLast;
        const isShort = blocks.openLength + piece.length <= SHORT;
        blocks.add(piece, isWhole);
        millisecondsOwed = isShort ? 0 : performance.now() - began;
      }
      return isTaken;
    },
  };
}

/**
 * The blocks of a growing text, the open ones at its end.
 *
 * @param {HTMLElement} root
 */
function createBlocks(root) {
  /** The text of the open blocks. */
  let open = "";
  /** @type {Block[]} the open blocks */
  let blocks = [];
  let heading = QUESTION_HEADING;
  /** @type {HTMLElement | null} where the text is shown as it is, since it could not be parsed */
  let plain = null;

  /** @param {Node} block */
  const append = (block) => partOf(root).appendChild(block);

  /** Shows the open blocks, and everything behind them, as plain text. @param {Block[]} drawn */
  const giveUp = (drawn) => {
    [...blocks, ...drawn].forEach(({ view }) => view.node?.remove());
    plain = make("p", { class: "plain", dir: "auto" });
    append(plain);
    appendText(plain, open);
  };

  return {
    get openLength() {
      return open.length;
    },
    get isPlain() {
      return plain !== null;
    },
    /** @param {string} piece */
    addPlain(piece) {
      if (plain) {
        appendText(plain, piece);
      }
    },
    /**
     * @param {string} piece
     * @param {boolean} isWhole whether no more text will come
     */
    add(piece, isWhole) {
      open += piece;
      /** @type {Block[]} */
      let next = [];
      if (!parser) {
        giveUp(next);
        return;
      }
      try {
        next = parser.blocksOf(open, heading, isWhole);
        patchAll(blocks.map(viewOf), next.map(viewOf), append);
      } catch {
        giveUp(next);
        return;
      }
      const { index, at } = openFrom(open, next);
      heading = next[index - 1]?.heading ?? heading;
      blocks = next.slice(index);
      open = open.slice(at);
    },
  };
}

/** @param {Block} block */
const viewOf = ({ view }) => view;

/** @param {Node} root */
function partOf(root) {
  const last = root.lastChild;
  return last && last.childNodes.length < BLOCKS_A_PART ? last : root.appendChild(make("div"));
}

/**
 * Return the last block whose first two lines are complete: its index, and its offset in the text. More text cannot change
 * the blocks before it: a table is recognised by its second line, any other block by its first.
 *
 * @param {string} text
 * @param {Block[]} blocks
 */
function openFrom(text, blocks) {
  let found = { index: 0, at: 0 };
  let line = 0;
  let at = 0;
  for (const [index, block] of blocks.entries()) {
    for (; line < block.line; line += 1) {
      at = text.indexOf("\n", at) + 1;
    }
    const second = text.indexOf("\n", at) + 1;
    if (second === 0 || !text.includes("\n", second)) {
      break;
    }
    found = { index, at };
  }
  return found;
}
