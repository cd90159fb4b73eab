/** Limit on a text node. Browsers shape a whole node again at each change, so a long text is split over several. */
const LONGEST = 2048;

/**
 * Return a piece of a text without splitting a surrogate pair.
 *
 * @param {string} text
 * @param {number} at
 * @param {number} length
 */
export function pieceOf(text, at, length) {
  const end = at + length;
  const last = text.charCodeAt(end - 1);
  return text.slice(at, last >= 0xd800 && last <= 0xdbff ? end + 1 : end);
}

/**
 * Split a text into the pieces for its nodes. Text added at the end changes only the last piece.
 *
 * @param {string} text
 */
export function piecesOf(text) {
  const pieces = [];
  for (let at = 0; at < text.length; at += /** @type {string} */ (pieces.at(-1)).length) {
    pieces.push(pieceOf(text, at, LONGEST));
  }
  return pieces;
}

/** Return whether two texts may share a node. @param {string} text @param {string} more */
export const fits = (text, more) => text.length + more.length <= LONGEST;

/** @param {Node} node @param {string} text */
export function appendText(node, text) {
  let rest = text;
  if (node.lastChild instanceof Text && node.lastChild.length < LONGEST) {
    const piece = pieceOf(text, 0, LONGEST - node.lastChild.length);
    node.lastChild.appendData(piece);
    rest = text.slice(piece.length);
  }
  for (const piece of piecesOf(rest)) {
    node.appendChild(document.createTextNode(piece));
  }
}
