import { codeBlock } from "./code.js";
import { make } from "./elements.js";
import { label } from "./words.js";

/** @import { Code } from "./code.js" */

/**
 * A view describes a node to show. Patching changes only nodes whose views differ, so that a selection survives and the
 * browser lays out only the changes. A view that is shown has its node.
 *
 * @typedef {{text: string, node?: Text}} TextView
 * @typedef {{code: Code, node?: HTMLElement, block?: ReturnType<typeof codeBlock>}} CodeView
 * @typedef {object} ElementView
 * @property {keyof HTMLElementTagNameMap} tag
 * @property {Record<string, string>} [attributes]
 * @property {import("./words.js").Word} [label] the element's label, in the reader's language
 * @property {View[] | (() => View[])} children or how to make them
 * @property {string} [key] what the children are made from: with the same key they are the same
 * @property {HTMLElement} [node]
 * @typedef {TextView | ElementView | CodeView} View
 */

/**
 * Show views in place of others.
 *
 * @param {View[]} old what is shown
 * @param {View[]} views
 * @param {(node: Node) => void} append adds a node behind those of the old views
 */
export function patchAll(old, views, append) {
  for (const [index, view] of views.entries()) {
    const before = old[index];
    if (before && patch(before, view)) {
      continue;
    }
    const node = create(view);
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
 * @param {View} old
 * @param {View} view
 */
function patch(old, view) {
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
  if ("tag" in old && "tag" in view && old.tag === view.tag && old.node) {
    view.node = old.node;
    patchElement(old.node, old, view);
    return true;
  }
  return false;
}

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
 * @param {HTMLElement} node
 * @param {ElementView} old
 * @param {ElementView} view
 */
function patchElement(node, old, view) {
  for (const name of Object.keys(old.attributes ?? {})) {
    if (view.attributes?.[name] === undefined) {
      node.removeAttribute(name);
    }
  }
  for (const [name, value] of Object.entries(view.attributes ?? {})) {
    if (old.attributes?.[name] !== value) {
      node.setAttribute(name, value);
    }
  }
  if (old.key !== undefined && old.key === view.key) {
    view.children = old.children;
  } else {
    patchAll(childrenOf(old), childrenOf(view), (child) => node.append(child));
  }
}

/** @param {View} view */
function create(view) {
  if ("text" in view) {
    view.node = document.createTextNode(view.text);
  } else if ("code" in view) {
    view.block = codeBlock();
    view.block.show(view.code);
    view.node = view.block.figure;
  } else {
    const element = make(view.tag, view.attributes);
    if (view.label) {
      label(element, view.label, "label");
    }
    patchAll([], childrenOf(view), (child) => element.append(child));
    view.node = element;
  }
  return view.node;
}

/** @param {ElementView} view */
function childrenOf(view) {
  if (typeof view.children === "function") {
    view.children = view.children();
  }
  return view.children;
}
