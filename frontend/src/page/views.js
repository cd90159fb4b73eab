import { blockTokens } from "./commonmark.js";
import { inlineViews, taskViews } from "./inline-views.js";

/** @import { Token } from "markdown-it" */
/** @import { CodeView, ElementView, View } from "./patch.js" */

/** Limit on the cells of a row; the last one shows the text of further ones. A row of a million would freeze the page. */
const MOST_CELLS = 100;
const BETWEEN_CELLS = " | ";

/**
 * @typedef {ElementView & {children: View[], number?: number}} Container a list has the number of its last item
 * @typedef {object} Block a block that is in no other
 * @property {View} view
 * @property {number} line its first line in the text
 * @property {number} heading the level of the last heading up to its end
 */

/**
 * @typedef {object} Place where in the blocks a token is
 * @property {string} text
 * @property {string[] | null} lines of the text
 * @property {Container[]} parents
 * @property {number} heading the level of the last heading
 * @property {CodeView | null} lastCode the last block of code, while nothing stands behind it
 * @property {number} columns of the row, shown or not
 * @property {number | null} rowLine the row's line in the text
 */

/**
 * Parse a text's blocks into views.
 *
 * @param {string} text
 * @param {number} heading the level of the last heading before it
 * @param {boolean} whole whether no more text will come
 */
export function blocksOf(text, heading, whole) {
  /** @type {Block[]} */
  const blocks = [];
  const root = container("div");
  /** @type {Place} */
  const place = { text, lines: null, parents: [root], heading, lastCode: null, columns: 0, rowLine: null };
  let line = 0;
  for (const token of blockTokens(text)) {
    if (token.level === 0 && token.map) {
      line = token.map[0];
    }
    addToken(place, token);
    const view = root.children[blocks.length];
    if (view && place.parents.length === 1) {
      blocks.push({ view, line, heading: place.heading });
    }
  }
  endCode(place, whole);
  return blocks;
}

/** @param {string} tag @param {Record<string, string>} [attributes] @returns {Container} */
const container = (tag, attributes) => ({
  tag: /** @type {keyof HTMLElementTagNameMap} */ (tag), // the parser's own, never the model's
  ...(attributes && { attributes }),
  children: [],
});

/** @param {Place} place @param {boolean} whole */
function endCode(place, whole) {
  if (place.lastCode) {
    place.lastCode.code.whole = whole;
    place.lastCode = null;
  }
}

/** @param {Place} place @param {Token} token */
function addToken(place, token) {
  const parent = /** @type {Container} */ (place.parents.at(-1));
  if (token.nesting < 0) {
    if (token.type === "tr_close") {
      addExcess(place, parent);
    }
    place.parents.pop();
    return;
  }
  endCode(place, true);
  if (token.type === "inline") {
    addContent(place, parent, token.content);
  } else if (token.type === "fence" || token.type === "code_block") {
    const text = token.content.replace(/\n$/, "");
    place.lastCode = { code: { info: token.info.trim(), text, whole: false } };
    parent.children.push(place.lastCode);
  } else if (token.nesting > 0) {
    open(place, parent, token);
  } else {
    parent.children.push(container("hr"));
  }
}

/**
 * Add content, which is parsed only when it is shown and differs from what is shown there.
 *
 * @param {Place} place
 * @param {ElementView} parent
 * @param {string} content
 */
function addContent(place, parent, content) {
  const item = place.parents.at(-2);
  const views = item?.tag === "li" && item.children[0] === parent ? taskViews : inlineViews;
  const all = parent.key === undefined ? content : parent.key + BETWEEN_CELLS + content;
  parent.key = all;
  parent.children = () => views(all);
}

/**
 * @param {Place} place
 * @param {Container} parent
 * @param {Token} token
 */
function open(place, parent, token) {
  switch (token.type) {
    case "tr_open":
      place.columns = 0;
      place.rowLine = token.map?.[0] ?? null;
      break;
    case "th_open":
    case "td_open":
      place.columns += 1;
      if (place.columns > MOST_CELLS) {
        place.parents.push(/** @type {Container} */ (parent.children.at(-1)));
        return;
      }
  }
  const view = opened(place, parent, token);
  parent.children.push(token.type === "table_open" ? framed(view) : view);
  place.parents.push(view);
}

/**
 * @param {Place} place
 * @param {Container} parent
 * @param {Token} token
 */
function opened(place, parent, token) {
  switch (token.type) {
    case "heading_open":
      // The question is a heading of level 2. Levels are not skipped, for readers who navigate by headings.
      place.heading = Math.min(Number(token.tag.slice(1)) + 2, place.heading + 1, 6);
      return container(`h${place.heading}`, { dir: "auto" });
    case "paragraph_open":
      // A paragraph of a list's item has the item's direction.
      return container(token.hidden ? "div" : "p", parent.tag === "li" ? {} : { dir: "auto" });
    case "ordered_list_open":
      return listFrom(Number(token.attrGet("start") ?? 1));
    case "list_item_open":
      return container("li", { dir: "auto", ...numberOf(parent, token) });
    case "th_open":
    case "td_open": {
      const align = /right|center/.exec(String(token.attrGet("style") ?? ""))?.[0];
      return container(token.tag, { dir: "auto", ...(align && { class: align }) });
    }
    default:
      return container(token.tag);
  }
}

/** @param {number} first */
function listFrom(first) {
  const list = container("ol", first === 1 ? {} : { start: String(first) });
  list.number = first - 1;
  return list;
}

/**
 * Return an item's number as written, if the list would number it differently: items may count down. Items that all have the
 * same number are counted by the list.
 *
 * @param {Container} list
 * @param {Token} token
 */
function numberOf(list, token) {
  if (list.number === undefined) {
    return {};
  }
  const number = Number(token.info);
  const isExpected = number === list.number + 1 || number === list.number;
  list.number = number;
  return isExpected ? {} : { value: String(number) };
}

/** @param {Container} table @returns {ElementView} */
const framed = (table) => ({
  tag: "div",
  attributes: { class: "table", role: "group", tabindex: "0" },
  label: "table",
  children: [table],
});

/**
 * Add the cells that a row has beyond the table's columns, as with a pipe in code. The parser drops them.
 *
 * @param {Place} place
 * @param {Container} row
 */
function addExcess(place, row) {
  const last = row.children.at(-1);
  if (place.rowLine === null || !last || !("tag" in last)) {
    return;
  }
  place.lines ??= place.text.split("\n");
  const cells = (place.lines[place.rowLine] ?? "").trim().split(/(?<!\\)\|/);
  if (/^[\s>]*$/.test(cells[0] ?? "")) {
    cells.shift();
  }
  if (cells.at(-1) === "") {
    cells.pop();
  }
  for (const cell of cells.slice(place.columns)) {
    addContent(place, last, cell.trim().replaceAll("\\|", "|"));
  }
}
