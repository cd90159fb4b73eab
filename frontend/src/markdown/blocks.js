import { make } from "./elements.js";
import { completed, withoutMarks, withRule } from "./preview.js";
import { childrenOf, patchAll, patchAttributes, patchChildren } from "./patch.js";
import { isUnclosed, restartOf } from "./restart.js";
import { appendText } from "./text-nodes.js";
import { treeOf } from "./tree.js";

/** @import { Context } from "./context.js" */
/** @import { View } from "./patch.js" */
/** @import { Content } from "./references.js" */
/** @import { Restart } from "./restart.js" */
/** @import { Block, Container } from "./tree.js" */

/**
 * Blocks are grouped in parts of this many. Laying out a growing answer, a browser skips a part without changes, but visits
 * every block of a flat list: with 20,000 paragraphs a frame took 66 ms flat, and takes 17 ms in parts.
 */
const BLOCKS_A_PART = 64;
/** How far from the end a blank line is looked for, in characters. */
const LONGEST_BLANK = 200;

/**
 * An open block in which parsing begins anew.
 *
 * @typedef {object} Level
 * @property {Block["kind"]} kind
 * @property {View} view
 * @property {Container} inner the view with the block's children
 * @property {number} stable how many of the children cannot change any more
 * @property {boolean} isLoose
 * @property {number} at the next level's place in the parsed block
 */

/** The blocks of a growing text. What cannot change any more is not parsed again: see `restartOf`. */
export class Blocks {
  #context;
  #root;
  /** The open blocks in which the text goes on, from the root. @type {Level[]} */
  #levels;
  #placeholders = "";
  #heading = 0;
  /** The text behind what cannot change. */
  #open = "";
  /** Where the text is shown as it is, since it could not be parsed. @type {HTMLElement | null} */
  #plain = null;

  /** @param {Context} context @param {HTMLElement} root */
  constructor(context, root) {
    this.#context = context;
    this.#root = root;
    /** @type {Container} */
    const all = { tag: "div", children: [] };
    this.#levels = [{ kind: "root", view: all, inner: all, stable: 0, isLoose: false, at: 0 }];
  }

  get openLength() {
    return this.#plain ? 0 : this.#open.length;
  }

  /**
   * @param {string} piece
   * @param {boolean} isWhole whether no more text will come
   */
  add(piece, isWhole) {
    if (this.#plain) {
      appendText(this.#plain, piece);
      return;
    }
    this.#open += piece;
    try {
      this.#show(isWhole);
    } catch {
      this.#giveUp();
    }
  }

  /** @param {boolean} isWhole */
  #show(isWhole) {
    const placeholders = this.#placeholders.split("\n").length - 1;
    /** @param {string} text */
    const parse = (text) => ({
      text,
      tree: treeOf(this.#context, text, { heading: this.#heading, placeholders }, isWhole),
    });
    const { text, tree } = isWhole
      ? parse(this.#placeholders + this.#open)
      : previewOf(this.#placeholders + withoutMarks(this.#open), parse);
    graft(this.#context, this.#levels, tree, (node) => partOf(this.#root).appendChild(node));
    const complete = placeholders + this.#open.split("\n").length - 1;
    const restart = isWhole ? null : restartOf(tree, text, { complete, placeholders });
    if (isWhole || restart) {
      settle(this.#context, tree, restart, { levels: this.#levels, views: () => this.#views() });
    }
    if (restart) {
      this.#open = linesFrom(this.#open, restart.line - placeholders);
      this.#levels = levelsOf(restart);
      this.#placeholders = restart.placeholders;
      this.#heading = restart.heading;
    }
  }

  /** The views of what may still change. */
  #views() {
    return this.#levels.flatMap(({ inner, stable }) => inner.children.slice(stable));
  }

  /** Show the open blocks, and everything behind them, as plain text. */
  #giveUp() {
    this.#views().forEach(({ node }) => node?.remove());
    this.#plain = make("p", { class: "plain", dir: "auto" });
    partOf(this.#root).appendChild(this.#plain);
    appendText(this.#plain, this.#open);
  }
}

/** @param {Node} root */
function partOf(root) {
  const last = root.lastChild;
  return last && last.childNodes.length < BLOCKS_A_PART ? last : root.appendChild(make("div"));
}

/** @param {string} text @param {number} lines */
function linesFrom(text, lines) {
  let at = 0;
  for (let line = 0; line < lines; line += 1) {
    at = text.indexOf("\n", at) + 1;
  }
  return text.slice(at);
}

/**
 * Parse a text that is still growing. The block at its end may go on: it may be a table's head, its code has not ended, and its
 * content is completed.
 *
 * @param {string} text
 * @param {(text: string) => {text: string, tree: Block}} parse
 */
function previewOf(text, parse) {
  const parsed = parse(text);
  const last = lastOf(parsed.tree);
  const { view } = last;
  if ("code" in view) {
    view.code.isEnded = last.kind === "fence" && !isUnclosed(last);
  } else if (last.kind === "leaf" && "tag" in view && view.show && !endsInBlankLine(text)) {
    const ruled = view.tag === "p" ? withRule(text) : null;
    if (ruled !== null) {
      return parse(ruled);
    }
    view.show(completed(String(view.key)));
  }
  return parsed;
}

/** @param {Block} tree */
function lastOf(tree) {
  let last = tree;
  for (let next = tree.children.at(-1); next; next = next.children.at(-1)) {
    last = next;
  }
  return last;
}

/** @param {string} text */
const endsInBlankLine = (text) => /\n[ \t>]*\n[ \t>]*$/.test(text.slice(-LONGEST_BLANK));

/**
 * Show a parsed text's blocks in place of the ones that may have changed, and make the tree's open blocks those that are shown.
 *
 * @param {Context} context
 * @param {Level[]} levels
 * @param {Block} tree
 * @param {(node: Node) => void} append adds a block to the answer
 */
function graft(context, levels, tree, append) {
  let block = tree;
  for (const [depth, level] of levels.entries()) {
    const isInnermost = depth === levels.length - 1;
    const from = isInnermost ? (level.kind === "root" || level.kind === "table" ? 0 : 1) : level.at + 1;
    const next = block.children[level.at];
    takeOver(level, block);
    if (level.kind !== "fence") {
      const keep = level.stable + (isInnermost ? 0 : 1);
      const views = block.children.slice(from).map(({ view }) => view);
      const shown = level.inner.children.slice(keep);
      if (level.inner.node) {
        patchChildren(context, level.inner.node, shown, views);
      } else {
        patchAll(context, shown, views, append); // the root's, which are in parts
      }
      level.inner.children.splice(keep, Infinity, ...views);
    }
    if (next && !isInnermost) {
      block = next;
    }
  }
}

/** @param {Level} level @param {Block} block a parsed one, which gets the level's view */
function takeOver(level, block) {
  const { inner, view } = level;
  if (block.kind !== level.kind) {
    throw new Error("A block that is open was not parsed as one.");
  }
  if (block.kind === "list") {
    block.isLoose ||= level.isLoose;
    const attributes = { ...inner.attributes, class: block.isLoose ? "loose" : "tight" };
    if (inner.node) {
      patchAttributes(inner.node, inner.attributes, attributes);
    }
    inner.attributes = attributes;
  } else if ("code" in view && "code" in block.view) {
    const { text, isEnded } = block.view.code;
    view.code = { ...view.code, text, isEnded };
    view.block?.show(view.code);
  }
  block.view = view;
  block.inner = inner;
}

/** @param {Restart} restart @returns {Level[]} */
function levelsOf({ path, at, line }) {
  return path.map((block, depth) => {
    const { kind, view, inner, isLoose, children } = block;
    const next = path[depth + 1];
    if (kind === "fence" && "code" in view) {
      const end = view.code.text.length - linesFrom(view.code.text, line - block.line - 1).length;
      view.code.before.push(view.code.text.slice(0, end));
      view.code = { ...view.code, text: view.code.text.slice(end) };
      view.block?.show(view.code);
    }
    const stable = next
      ? inner.children.lastIndexOf(next.view)
      : kind === "fence"
        ? 0
        : inner.children.length - children.filter((child) => child.line >= line).length;
    return { kind, view, inner, stable, isLoose, at: at[depth] ?? 0 };
  });
}

/**
 * Make known what cannot change any more: definitions, and what waits for one.
 *
 * @param {Context} context
 * @param {Block} tree
 * @param {Restart | null} restart null: nothing can change
 * @param {{levels: Level[], views: () => View[]}} shown
 */
function settle(context, tree, restart, { levels, views }) {
  const { references } = context;
  const known = new Set(levels.map(({ view }) => view));
  const open = new Set(restart?.path);
  /** @type {import("./references.js").Definition[]} */
  const definitions = [];
  /** @type {string[]} */
  const footnotes = [];
  /** @type {Content[]} */
  const contents = [];
  /** @param {Block} block */
  const visit = (block) => {
    if (restart && !open.has(block) && block.line >= restart.line) {
      return;
    }
    if (block.definition) {
      definitions.push(block.definition);
    }
    if (block.label !== null) {
      footnotes.push(block.label);
    }
    if (block.children.length === 0 || (block.kind === "table" && !known.has(block.view))) {
      contents.push(...contentsOf(block.view));
    } else {
      block.children.forEach(visit);
    }
  };
  visit(tree);
  contents.forEach((content) => references.wait(content));
  const labels = references.define(definitions, footnotes);
  if (labels.length > 0) {
    const shown = [...references.waitingFor(labels), ...views().flatMap(contentsOf)];
    shown
      .filter(({ misses }) => labels.some((label) => misses?.has(label)))
      .forEach((each) => remake(context, each));
  }
}

/** Return the contents in a view that refer to something in vain. @param {View} view @returns {Content[]} */
function contentsOf(view) {
  if (!("tag" in view)) {
    return [];
  }
  if (view.remake) {
    return view.misses && view.misses.size > 0 ? [view] : [];
  }
  return childrenOf(view).flatMap(contentsOf);
}

/** @param {Context} context @param {Content} content */
function remake(context, content) {
  const before = childrenOf(content);
  const views = content.remake?.() ?? before;
  if (content.node) {
    patchChildren(context, content.node, before, views);
  }
  content.children = views;
  context.references.wait(content);
}
