import { blockTokens } from "./commonmark.js";
import { inlineViews, isTask, taskViews } from "./inline-views.js";

/** @import { Token } from "markdown-it" */
/** @import { Definition } from "./references.js" */
/** @import { ElementView, View } from "./patch.js" */
/** @import { Context } from "./context.js" */
/** @import { Formula } from "./rules/formulas.js" */

/** Limit on the cells of a row; the last one shows the text of further ones. A row of a million would freeze the page. */
const MOST_CELLS = 100;
const BETWEEN_CELLS = " | ";

/**
 * @typedef {ElementView & {children: View[]}} Container
 *
 * @typedef {object} Block
 * @property {"root" | "list" | "item" | "quote" | "footnote" | "table" | "row" | "fence" | "code" | "formula" | "definition" | "leaf"} kind
 * @property {number} line its first line
 * @property {number} end the line behind it
 * @property {number} offset of its first character in the text
 * @property {boolean} blankBefore
 * @property {Block[]} children
 * @property {View} view
 * @property {Container} inner the view that has those of its children
 * @property {number} heading the level of the last heading before it
 * @property {boolean} isLoose whether a blank line is between a list's items, or between blocks of one
 * @property {Definition | null} definition
 * @property {string | null} label of a footnote
 *
 * @typedef {object} Place where in the blocks a token is
 * @property {Context} context
 * @property {string} text
 * @property {number} placeholders lines at the beginning that stand for earlier ones
 * @property {string[] | null} lines of the text
 * @property {ReturnType<typeof blockTokens>} parsed
 * @property {Block[]} blocks the open ones, from the root
 * @property {Container[]} parents the open ones' views
 * @property {number} heading the level of the last heading
 * @property {number[]} numbers of the open lists' last items
 * @property {number} columns of the row, shown or not
 * @property {number | null} rowLine the row's line in the text
 */

/**
 * Parse a text's blocks into views.
 *
 * @param {Context} context
 * @param {string} text
 * @param {object} before
 * @param {number} before.heading the level of the last heading before the text
 * @param {number} before.placeholders lines at the text's beginning that stand for earlier ones
 * @param {boolean} isWhole whether no more text will come
 */
export function treeOf(context, text, { heading, placeholders }, isWhole) {
  const parsed = blockTokens(context.parser, text, isWhole);
  const root = newBlock("root", container("div"), { heading });
  /** @type {Place} */
  const place = {
    context,
    text,
    placeholders,
    lines: null,
    parsed,
    blocks: [root],
    parents: [root.inner],
    heading,
    numbers: [],
    columns: 0,
    rowLine: null,
  };
  for (const token of parsed.tokens) {
    addToken(place, token);
  }
  return root;
}

/** @param {string} tag @param {Record<string, string>} [attributes] @returns {Container} */
const container = (tag, attributes = {}) => ({
  tag: /** @type {keyof HTMLElementTagNameMap} */ (tag), // the parser's own, never the model's
  attributes,
  children: [],
});

/**
 * @param {Block["kind"]} kind
 * @param {View} view
 * @param {Partial<Block>} [more]
 * @returns {Block}
 */
const newBlock = (kind, view, more) => ({
  kind,
  view,
  inner: /** @type {Container} */ (view),
  line: 0,
  end: Infinity,
  offset: 0,
  blankBefore: false,
  children: [],
  heading: 0,
  isLoose: false,
  definition: null,
  label: null,
  ...more,
});

/** @type {Record<string, Block["kind"]>} */
const KINDS = {
  bullet_list_open: "list",
  ordered_list_open: "list",
  list_item_open: "item",
  blockquote_open: "quote",
  footnote_open: "footnote",
  table_open: "table",
  fence: "fence",
  code_block: "code",
  formula_block: "formula",
  reference_definition: "definition",
  paragraph_open: "leaf",
  heading_open: "leaf",
  hr: "leaf",
};
const CLOSES = new Set([
  "bullet_list_close",
  "ordered_list_close",
  "list_item_close",
  "blockquote_close",
  "footnote_close",
  "table_close",
  "paragraph_close",
  "heading_close",
]);

/** @param {Place} place @param {Token} token */
function addToken(place, token) {
  const kind = KINDS[token.type];
  if (kind) {
    addBlock(place, kind, token);
  } else if (token.type === "inline") {
    addContent(place, /** @type {Container} */ (place.parents.at(-1)), token.content);
  } else if (CLOSES.has(token.type)) {
    place.parents.pop();
    const block = place.blocks.pop();
    if (block?.kind === "list") {
      place.numbers.pop();
      block.inner.attributes = { ...block.inner.attributes, class: block.isLoose ? "loose" : "tight" };
    }
  } else if (token.nesting > 0) {
    openTablePart(place, token);
  } else if (token.nesting < 0) {
    if (token.type === "tr_close") {
      addExcess(place);
    }
    place.parents.pop();
  }
}

/** @param {Place} place @param {Block["kind"]} kind @param {Token} token */
function addBlock(place, kind, token) {
  const parent = /** @type {Block} */ (place.blocks.at(-1));
  const [line, end] = token.map ?? [0, 0];
  const beginning = place.parsed.beginnings.get(`${line}:${token.level}`);
  const { heading } = place;
  const view = kind === "table" ? framedTable(place) : viewOf(place, kind, token);
  const block = newBlock(kind, view, {
    line,
    end,
    heading,
    offset: beginning?.offset ?? 0,
    blankBefore: Boolean(token.meta?.blankBefore ?? beginning?.blankBefore),
    label: kind === "footnote" ? String(token.meta?.label) : null,
  });
  if (kind === "table") {
    block.inner = /** @type {Container} */ (/** @type {Container} */ (view).children[0]);
  } else if (kind === "definition") {
    block.definition = definitionOf(place, token, block);
  }
  if (parent.children.length > 0 && block.blankBefore) {
    const list = parent.kind === "item" ? place.blocks.at(-2) : parent;
    if (list?.kind === "list") {
      list.isLoose = true;
    }
  }
  parent.children.push(block);
  parent.inner.children.push(view);
  if (token.nesting > 0) {
    place.blocks.push(block);
    place.parents.push(block.inner);
  }
}

/** @param {Place} place @param {Block["kind"]} kind @param {Token} token @returns {View} */
function viewOf(place, kind, token) {
  // Nested blocks take their direction from the outermost one, or a list's marks would stand on its other side.
  const direction = place.blocks.length === 1 ? { dir: "auto" } : undefined;
  switch (token.type) {
    case "fence":
    case "code_block":
      return { code: { info: infoOf(place, token), before: [], text: token.content, isEnded: true } };
    case "formula_block":
      return { formula: /** @type {Formula} */ (/** @type {unknown} */ (token.meta)) };
    case "reference_definition":
      return definitionView(place, token);
    case "heading_open":
      return container(headingTag(place, token), direction);
    case "ordered_list_open":
      return listFrom(place, Number(token.attrGet("start") ?? 1), direction);
    case "bullet_list_open":
      place.numbers.push(NaN);
      return container("ul", direction);
    case "list_item_open":
      return container("li", numberOf(place, token));
    case "footnote_open":
      return place.context.footnotes.noteView(String(token.meta?.label));
    default:
      return container(kind === "quote" ? "blockquote" : token.tag, direction);
  }
}

/** @param {Place} place @param {Token} token */
const infoOf = ({ context }, { info }) => context.parser.utils.unescapeAll(info).trim();

/** @param {Place} place @param {Token} token */
function headingTag(place, token) {
  const written = Number(token.tag.slice(1));
  if (Number(token.map?.[0]) < place.placeholders) {
    return token.tag;
  }
  const level = place.context.options.headingLevel(written, place.heading);
  place.heading = Math.min(6, Math.max(1, level));
  return `h${place.heading}`;
}

/** @param {Place} place @param {Token} token @returns {ElementView} */
function definitionView(place, token) {
  place.lines ??= place.text.split("\n");
  const [from, to] = token.map ?? [0, 0];
  const offset = place.parsed.beginnings.get(`${from}:${token.level}`)?.offset ?? 0;
  const start = place.lines.slice(0, from).reduce((sum, line) => sum + line.length + 1, 0);
  const lines = place.lines.slice(from, to);
  lines[0] = String(lines[0]).slice(Math.max(0, offset - start));
  const isUsed = place.context.references.isUsed(String(token.meta?.label));
  return {
    tag: "p",
    attributes: {
      ...(place.blocks.length === 1 && { dir: "auto" }),
      class: "definition",
      ...(isUsed && { hidden: "" }),
    },
    children: [{ text: lines.map((line) => line.trim()).join("\n") }],
  };
}

/** @param {Place} place @param {Token} token @param {Block} block @returns {Definition} */
function definitionOf(place, token, block) {
  const label = String(token.meta?.label);
  const { href = "", title = "" } = place.parsed.references[label] ?? {};
  return { label, href, title, view: /** @type {ElementView} */ (block.view) };
}

/**
 * @param {Place} place
 * @param {number} first
 * @param {Record<string, string>} [direction]
 */
function listFrom(place, first, direction) {
  place.numbers.push(first - 1);
  return container("ol", { ...direction, ...(first !== 1 && { start: String(first) }) });
}

/**
 * Return an item's number as written, if the list would number it differently: items may count down. Items that all have the
 * same number are counted by the list.
 *
 * @param {Place} place
 * @param {Token} token
 */
function numberOf(place, token) {
  const last = place.numbers.pop() ?? NaN;
  const number = Number(token.info);
  place.numbers.push(Number.isNaN(last) ? NaN : number);
  const isExpected = Number.isNaN(last) || number === last + 1 || number === last;
  return isExpected ? {} : { value: String(number) };
}

/** A table in a frame that scrolls. @param {Place} place @returns {ElementView} */
function framedTable({ blocks }) {
  return {
    tag: "div",
    attributes: { class: "table", role: "group", tabindex: "0", ...(blocks.length === 1 && { dir: "auto" }) },
    label: "table",
    children: [container("table")],
  };
}

/**
 * @param {Place} place
 * @param {Token} token
 */
function openTablePart(place, token) {
  const parent = /** @type {Container} */ (place.parents.at(-1));
  const table = /** @type {Block} */ (place.blocks.at(-1));
  if (token.type === "th_open" || token.type === "td_open") {
    place.columns += 1;
    if (place.columns > MOST_CELLS) {
      place.parents.push(/** @type {Container} */ (parent.children.at(-1)));
      return;
    }
  }
  const align = /left|right|center/.exec(String(token.attrGet("style") ?? ""))?.[0];
  const view = container(token.tag, align === undefined ? {} : { class: align });
  parent.children.push(view);
  place.parents.push(view);
  if (token.type === "tbody_open") {
    table.inner = view;
  } else if (token.type === "tr_open") {
    place.columns = 0;
    place.rowLine = Number(token.map?.[0]);
    if (parent === table.inner) {
      table.children.push(newBlock("row", view, { line: place.rowLine, end: place.rowLine + 1 }));
    }
  }
}

/**
 * Add the cells that a row has beyond the table's columns, as with a pipe in code. The parser drops them.
 *
 * @param {Place} place
 */
function addExcess(place) {
  const row = /** @type {Container} */ (place.parents.at(-1));
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

/**
 * Add content, which is parsed only when it is shown and differs from what is shown there.
 *
 * @param {Place} place
 * @param {import("./references.js").Content} parent
 * @param {string} content
 */
function addContent({ context, blocks }, parent, content) {
  const item = blocks.at(-2);
  const isFirstOfItem = blocks.at(-1)?.kind === "leaf" && item?.kind === "item" && item.children.length === 1;
  const all = parent.key === undefined ? content : parent.key + BETWEEN_CELLS + content;
  const views = isFirstOfItem && isTask(content) ? taskViews : inlineViews;
  if (views === taskViews && item) {
    item.inner.attributes = { ...item.inner.attributes, class: "task" };
  }
  parent.show = (shown) => {
    parent.key = shown;
    parent.children = parent.remake = () => context.references.make(parent, () => views(context, shown));
  };
  parent.show(all);
}
