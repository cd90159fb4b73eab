import { codeBlock } from "./code.js";
import { make } from "./elements.js";
import { formulaView } from "./formula.js";

/** @import { Code } from "./code.js" */
/** @import { Context } from "./context.js" */
/** @import { Word } from "./options.js" */
/** @import { Formula } from "./rules/formulas.js" */

/**
 * A view describes a node to show. Patching changes only nodes whose views differ, so that a selection survives and the
 * browser lays out only the changes. A view that is shown has its node.
 *
 * @typedef {{text: string, node?: Text}} TextView
 * @typedef {{code: Code, node?: HTMLElement, block?: ReturnType<typeof codeBlock>}} CodeView
 * @typedef {{formula: Formula, node?: HTMLElement}} FormulaView
 * @typedef {object} ElementView
 * @property {keyof HTMLElementTagNameMap} tag
 * @property {Record<string, string>} [attributes]
 * @property {Word} [label] a word of the renderer's, as the element's name
 * @property {boolean} [says] the word is the element's text
 * @property {() => Node} [prefix] makes a node that stands before the children, once
 * @property {View[] | (() => View[])} children or how to make them
 * @property {string} [key] what the children are made from: with the same key they are the same
 * @property {Set<string>} [misses] labels that the children refer to in vain
 * @property {() => View[]} [remake]
 * @property {(content: string) => void} [show] make the children from content
 * @property {HTMLElement} [node]
 * @typedef {TextView | ElementView | CodeView | FormulaView} View
 */

/**
 * Number of children from which on an element's direction is fixed while they are added or removed. With `dir="auto"`,
 * Chromium looks at the element's text again for each of them: 24,000 took 19 s, and take 0.05 s.
 */
const MANY = 100;

/**
 * Show views in place of others, as the children of a node.
 *
 * @param {Context} context
 * @param {Element} node
 * @param {View[]} old what is shown
 * @param {View[]} views
 */
export function patchChildren(context, node, old, views) {
  const directed = Math.abs(views.length - old.length) < MANY ? null : node.closest('[dir="auto"]');
  directed?.setAttribute("dir", "ltr");
  try {
    patchAll(context, old, views, (child) => node.append(child));
  } finally {
    directed?.setAttribute("dir", "auto");
  }
}

/**
 * Show views in place of others.
 *
 * @param {Context} context
 * @param {View[]} old what is shown
 * @param {View[]} views
 * @param {(node: Node) => void} append adds a node behind those of the old views
 */
export function patchAll(context, old, views, append) {
  for (const [index, view] of views.entries()) {
    const before = old[index];
    if (before && patch(context, before, view)) {
      continue;
    }
    const node = create(context, view);
    if (before?.node) {
      before.node.replaceWith(node);
    } else {
      append(node);
    }
  }
  for (const { node } of old.slice(views.length)) {
    node?.remove();
  }
}

/**
 * Show a view with another one's node. Returns false if they are of different kinds.
 *
 * @param {Context} context
 * @param {View} old
 * @param {View} view
 */
function patch(context, old, view) {
  if (old === view) {
    return true;
  }
  if ("text" in old && "text" in view && old.node) {
    view.node = old.node;
    patchText(old.node, old.text, view.text);
    return true;
  }
  if ("code" in old && "code" in view && old.node && old.block) {
    view.node = old.node;
    view.block = old.block;
    old.block.show(view.code);
    return true;
  }
  if ("formula" in old && "formula" in view && old.node) {
    const isSame = old.formula.source === view.formula.source && old.formula.tex === view.formula.tex;
    if (isSame && old.formula.display === view.formula.display) {
      view.node = old.node;
      return true;
    }
    return false;
  }
  if ("tag" in old && "tag" in view && old.tag === view.tag && old.node && isAlike(old, view)) {
    view.node = old.node;
    patchElement(context, old.node, old, view);
    return true;
  }
  return false;
}

/** What an element says of itself is made once. @param {ElementView} old @param {ElementView} view */
const isAlike = (old, view) =>
  old.label === view.label &&
  old.says === view.says &&
  Boolean(old.prefix) === Boolean(view.prefix) &&
  (!old.prefix || old.attributes?.id === view.attributes?.id);

/**
 * Replace only the part after the common beginning, so that a selection before it survives.
 *
 * @param {Text} node
 * @param {string} old
 * @param {string} text
 */
function patchText(node, old, text) {
  if (old === text) {
    return;
  }
  let same = 0;
  while (same < old.length && old[same] === text[same]) {
    same += 1;
  }
  node.replaceData(same, old.length - same, text.slice(same));
}

/**
 * @param {Context} context
 * @param {HTMLElement} node
 * @param {ElementView} old
 * @param {ElementView} view
 */
function patchElement(context, node, old, view) {
  patchAttributes(node, old.attributes, view.attributes);
  if (old.key !== undefined && old.key === view.key) {
    view.children = old.children;
    if (old.misses) {
      view.misses = old.misses;
    }
  } else {
    patchChildren(context, node, childrenOf(old), childrenOf(view));
  }
}

/**
 * @param {HTMLElement} node
 * @param {Record<string, string>} [old]
 * @param {Record<string, string>} [attributes]
 */
export function patchAttributes(node, old = {}, attributes = {}) {
  for (const name of Object.keys(old)) {
    if (attributes[name] === undefined) {
      node.removeAttribute(name);
    }
  }
  for (const [name, value] of Object.entries(attributes)) {
    if (old[name] !== value) {
      node.setAttribute(name, value);
    }
  }
}

/** @param {Context} context @param {View} view */
function create(context, view) {
  if ("text" in view) {
    view.node = document.createTextNode(view.text);
  } else if ("code" in view) {
    view.block = codeBlock(context, patchAll);
    view.block.show(view.code);
    view.node = view.block.figure;
  } else if ("formula" in view) {
    view.node = formulaView(context, view.formula);
  } else {
    const element = make(view.tag);
    if (view.label) {
      context.options.label(element, view.label, view.says ? "text" : "label");
    }
    if (view.prefix) {
      element.append(view.prefix());
    }
    patchAll(context, [], childrenOf(view), (child) => element.append(child));
    patchAttributes(element, {}, view.attributes); // behind the children, because of `dir="auto"`: see MANY
    view.node = element;
  }
  return view.node;
}

/** Return an element's children, made if they have not been. @param {ElementView} view */
export function childrenOf(view) {
  if (typeof view.children === "function") {
    view.children = view.children();
  }
  return view.children;
}
