/** @import { Block } from "./tree.js" */

/**
 * The place from which a growing text is parsed again: the blocks before it cannot change any more. It may be in lists, quotes
 * and footnotes that are still open, and in a fence or a table. These are begun anew by placeholders: for each line that opens
 * some of them, the line's marks and a heading. A heading, because no line behind it continues it.
 *
 * @typedef {object} Restart
 * @property {string} placeholders lines before the text
 * @property {number} line of the text that was parsed
 * @property {Block[]} path from the root to the innermost block that is begun anew
 * @property {number[]} at the place of each of the path's blocks in the one before it
 * @property {number} heading the level of the last heading before it
 */

const CONTAINERS = new Set(["list", "item", "quote", "footnote"]);
const PLACEHOLDER = "# x";

/**
 * Return the last place before which nothing can change. More text cannot change the blocks before one whose first two lines
 * are complete: a table is recognised by its second line, any other block by its first.
 *
 * @param {Block} root
 * @param {string} text
 * @param {object} counts
 * @param {number} counts.complete how many of the text's lines are complete
 * @param {number} counts.placeholders lines at the text's beginning that stand for earlier ones
 * @returns {Restart | null}
 */
export function restartOf(root, text, counts) {
  if (root.children.length === 0) {
    return restartAt([root], { placeholders: "", line: counts.complete, heading: root.heading });
  }
  return deepest({ lines: text.split("\n"), text, ...counts }, [root]);
}

/**
 * @typedef {object} Lines
 * @property {string} text
 * @property {string[]} lines
 * @property {number} complete how many of the lines are complete
 * @property {number} placeholders
 */

/** @param {Lines} lines @param {Block[]} path @returns {Restart | null} */
function deepest(lines, path) {
  const parent = /** @type {Block} */ (path.at(-1));
  const last = parent.children.at(-1);
  if (last && isDecided(lines, last)) {
    const inside = CONTAINERS.has(last.kind) ? deepest(lines, [...path, last]) : within(lines, path, last);
    if (inside) {
      return inside;
    }
  }
  for (let index = parent.children.length - 1; index >= 0; index -= 1) {
    const block = /** @type {Block} */ (parent.children[index]);
    if (isDecided(lines, block) && block.line >= lines.placeholders) {
      return mayJoin(parent, index) ? null : before(lines, path, index);
    }
  }
  return null;
}

/** @param {Lines} lines @param {Block} block */
const isDecided = ({ complete }, block) => block.line + 1 < complete;

/**
 * A definition's title may be in the lines behind it. What looks like the beginning of a formula may be a line of the paragraph
 * before it.
 *
 * @param {Block} parent
 * @param {number} index
 */
const mayJoin = ({ children }, index) =>
  !children[index]?.blankBefore &&
  (children[index - 1]?.kind === "definition" || (children[index]?.kind === "formula" && index > 0));

/**
 * In an open fence or table, behind the last complete line.
 *
 * @param {Lines} lines
 * @param {Block[]} path
 * @param {Block} block
 * @returns {Restart | null}
 */
function within(lines, path, block) {
  const isOpen =
    block.end >= lines.complete && (block.kind === "fence" ? isUnclosed(block) : block.kind === "table");
  const header = block.kind === "fence" ? 1 : 2;
  if (!isOpen || lines.complete <= block.line + header) {
    return null;
  }
  const above = placeholdersOf(lines, path, block.line);
  const own = lines.lines.slice(block.line, block.line + header).join("\n");
  return above === null
    ? null
    : restartAt([...path, block], {
        placeholders: `${above}${own}\n`,
        line: lines.complete,
        heading: block.heading,
      });
}

/** A closed fence has a line that its code has not. @param {Block} block */
export function isUnclosed({ view, line, end }) {
  const text = "code" in view ? view.code.text : "";
  return end - line - 1 === text.split("\n").length - (text.endsWith("\n") || text === "" ? 1 : 0);
}

/**
 * Before a block that is in others.
 *
 * @param {Lines} lines
 * @param {Block[]} path
 * @param {number} index
 * @returns {Restart | null}
 */
function before(lines, path, index) {
  const parent = /** @type {Block} */ (path.at(-1));
  const block = /** @type {Block} */ (parent.children[index]);
  const line = block.line - (block.blankBefore ? 1 : 0);
  if (parent.kind === "root") {
    return restartAt(path, { placeholders: "", line: block.line, heading: block.heading });
  }
  const previous = parent.children[index - 1];
  if (!previous) {
    return null;
  }
  const open = parent.kind === "list" ? [...path, previous] : path;
  const placeholders = placeholdersOf(lines, open, Infinity);
  return placeholders === null ? null : restartAt(open, { placeholders, line, heading: block.heading });
}

/**
 * @param {Block[]} path
 * @param {Pick<Restart, "placeholders" | "line" | "heading">} restart
 * @returns {Restart}
 */
function restartAt(path, restart) {
  const at = path.slice(1).map((block, index) => {
    const parent = /** @type {Block} */ (path[index]);
    // A list begins with its item here. What begins in a later line than its parent has the parent's placeholder before it.
    const { line } = block.kind === "list" ? (path[index + 2] ?? block) : block;
    return parent.kind === "root" || parent.kind === "list" || parent.line === line ? 0 : 1;
  });
  return { ...restart, path, at };
}

/**
 * Lines that open the containers of a path, or null if none can. Those of the line `last` are opened by that line itself.
 *
 * @param {Lines} lines
 * @param {Block[]} path
 * @param {number} last
 */
function placeholdersOf({ text }, path, last) {
  const containers = path.filter(({ kind, line }) => CONTAINERS.has(kind) && kind !== "list" && line < last);
  let placeholders = "";
  for (const [index, container] of containers.entries()) {
    const first = container.children[0];
    if (!first || first.line !== container.line || first.kind === "code") {
      return null;
    }
    if (containers[index + 1]?.line !== container.line) {
      const start = text.lastIndexOf("\n", first.offset - 1) + 1;
      placeholders += `${text.slice(start, first.offset)}${PLACEHOLDER}\n`;
    }
  }
  return placeholders;
}
