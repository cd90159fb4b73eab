import { inlineTokens } from "./commonmark.js";
import { fits, piecesOf } from "./text-nodes.js";

/** @import { Token } from "markdown-it" */
/** @import { Context } from "./context.js" */
/** @import { View } from "./patch.js" */
/** @import { Formula } from "./rules/formulas.js" */

/** Limit on nested emphasis. Deeper emphasis is dropped, its text kept. */
const DEEPEST = 20;
/** Limit on parsing, in characters; longer content is shown as written. A million brackets would take seconds. */
const LONGEST = 50_000;
const TASK = /^\[([ \n\t xX])\](?=\s)/;

/** @param {string} content */
export const isTask = (content) => TASK.test(content);

/**
 * A paragraph's, a heading's or a cell's content.
 *
 * @param {Context} context
 * @param {string} content
 * @returns {View[]}
 */
export function inlineViews(context, content) {
  if (content.length > LONGEST) {
    return text(content);
  }
  return viewsOf(context, inlineTokens(context.parser, content, context.references), false);
}

/**
 * The content of a list's item that is a task.
 *
 * @param {Context} context
 * @param {string} content
 * @returns {View[]}
 */
export function taskViews(context, content) {
  const [mark = "", state = ""] = TASK.exec(content) ?? [];
  return [
    { tag: "span", attributes: { class: "checkbox" }, children: text(/x/i.test(state) ? "☑" : "☐") },
    ...inlineViews(context, content.slice(mark.length)),
  ];
}

/** @param {string} content @returns {View[]} */
const text = (content) => piecesOf(content).map((piece) => ({ text: piece }));

/**
 * @param {Context} context
 * @param {Token[]} tokens
 * @param {boolean} isInLink
 */
function viewsOf(context, tokens, isInLink) {
  /** @type {View[]} */
  const views = [];
  const places = [{ children: views, isInLink }];
  for (const token of tokens) {
    const place = /** @type {typeof places[0]} */ (places.at(-1));
    if (token.nesting < 0) {
      places.pop();
    } else if (token.nesting === 0) {
      addLeaf(place.children, leafViews(context, token, place.isInLink));
    } else {
      const view = places.length > DEEPEST ? null : opened(token, place.isInLink);
      if (view) {
        place.children.push(view);
      }
      places.push({
        children: view?.children ?? place.children,
        isInLink: place.isInLink || view?.tag === "a",
      });
    }
  }
  return views;
}

/**
 * Add a leaf's views. Texts are joined: each escaped character is one, and 20,000 nodes of one character take seconds.
 *
 * @param {View[]} children
 * @param {View[]} views
 */
function addLeaf(children, views) {
  const last = children.at(-1);
  const [first] = views;
  if (
    views.length === 1 &&
    last &&
    first &&
    "text" in last &&
    "text" in first &&
    fits(last.text, first.text)
  ) {
    last.text += first.text;
  } else {
    children.push(...views);
  }
}

/**
 * Emphasis or a link. A link in a link, and one without an address, is shown as its text alone.
 *
 * @param {Token} token
 * @param {boolean} isInLink
 */
function opened(token, isInLink) {
  /** @type {View[]} */
  const children = [];
  if (token.type !== "link_open") {
    return { tag: /** @type {"em" | "strong" | "s"} */ (token.tag), attributes: {}, children };
  }
  const attributes = isInLink ? null : leading(token, "href");
  return attributes && { tag: /** @type {const} */ ("a"), attributes, children };
}

/**
 * @param {Context} context
 * @param {Token} token
 * @param {boolean} isInLink
 * @returns {View[]}
 */
function leafViews(context, token, isInLink) {
  switch (token.type) {
    case "softbreak":
    case "hardbreak":
      return [{ tag: "br", children: [] }];
    case "code_inline":
      return [{ tag: "code", children: text(token.content) }];
    case "formula":
      return [{ formula: /** @type {Formula} */ (/** @type {unknown} */ (token.meta)) }];
    case "footnote_reference":
      return [footnoteReference(context, String(token.meta?.label), isInLink)];
    case "image":
      return [imageView(context, token, isInLink)];
    default:
      return text(token.content);
  }
}

/** @param {Context} context @param {string} label @param {boolean} isInLink @returns {View} */
const footnoteReference = (context, label, isInLink) =>
  isInLink ? { text: `[^${label}]` } : context.footnotes.referenceView(label);

/**
 * Show an image as a link: loading it would reveal the reader to its server.
 *
 * @param {Context} context
 * @param {Token} token
 * @param {boolean} isInLink
 * @returns {View}
 */
function imageView(context, token, isInLink) {
  const attributes = isInLink ? null : leading(token, "src");
  /** @type {View[]} */
  const kind = [...text(" ("), { tag: "span", label: "image", says: true, children: [] }, ...text(")")];
  return {
    tag: attributes ? "a" : "span",
    attributes: { ...attributes, class: "image" },
    children: [
      ...viewsOf(context, token.children ?? [], true),
      { tag: "span", attributes: { class: "kind" }, children: kind },
    ],
  };
}

/**
 * A link's attributes, or null if it has no address.
 *
 * @param {Token} token
 * @param {"href" | "src"} name
 */
function leading(token, name) {
  const address = String(token.attrGet(name) ?? "");
  const title = String(token.attrGet("title") ?? "");
  if (address === "") {
    return null;
  }
  return {
    href: address,
    rel: "noopener noreferrer",
    target: "_blank",
    title: title === "" ? address : `${address}\n${title}`,
  };
}
