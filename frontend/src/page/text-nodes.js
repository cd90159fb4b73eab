/** A change to a text node has the whole of it shaped anew, so a long text is in several. */
const LONGEST = 2048;

/**
 * A piece of a text that cuts no character in two.
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
 * The texts of the nodes that show a text. More text behind it changes no piece but the last.
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
