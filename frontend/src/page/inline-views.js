import { inlineTokens } from "./commonmark.js";
import { piecesOf } from "./text-nodes.js";
import { say } from "./words.js";

/** @import { Token } from "markdown-it" */
/** @import { View } from "./patch.js" */

/** Limit on nested emphasis. Deeper emphasis is dropped, its text kept. */
const DEEPEST = 20;
/** Limit on parsing, in characters; longer content is shown as written. A million brackets would take seconds. */
const LONGEST = 50_000;
const TASK = /^\[([ xX])\](?=\s)/;

/**
 * A paragraph's, a heading's or a cell's content.
 *
 * @param {string} content
 */
export function inlineViews(content) {
  return content.length > LONGEST ? text(content) : viewsOf(inlineTokens(content), false);
}

/**
 * A list item's content, which may be a task.
 *
 * @param {string} content
 * @returns {View[]}
 */
export function taskViews(content) {
  const task = TASK.exec(content);
  if (!task) {
    return inlineViews(content);
  }
  const box = text(task[1] === " " ? "☐" : "☑");
  return [
    { tag: "span", attributes: { class: "checkbox" }, children: box },
    ...inlineViews(content.slice(task[0].length)),
  ];
}

/** @param {string} content @returns {View[]} */
const text = (content) => piecesOf(content).map((piece) => ({ text: piece }));

/**
 * @param {Token[]} tokens
 * @param {boolean} isInLink
 */
function viewsOf(tokens, isInLink) {
  /** @type {View[]} */
  const views = [];
  const places = [{ children: views, isInLink }];
  for (const token of tokens) {
    const place = /** @type {typeof places[0]} */ (places.at(-1));
    if (token.nesting < 0) {
      places.pop();
    } else if (token.nesting === 0) {
      place.children.push(...leafViews(token, place.isInLink));
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
 * @param {Token} token
 * @param {boolean} isInLink
 * @returns {View[]}
 */
function leafViews(token, isInLink) {
  switch (token.type) {
    case "softbreak":
    case "hardbreak":
      return [{ tag: "br", children: [] }];
    case "code_inline":
      return [{ tag: "code", children: text(token.content) }];
    case "image":
      return [imageView(token, isInLink)];
    default:
      return text(token.content);
  }
}

/**
 * Show an image as a link: loading it would reveal the reader to its server.
 *
 * @param {Token} token
 * @param {boolean} isInLink
 * @returns {View}
 */
function imageView(token, isInLink) {
  const attributes = isInLink ? null : leading(token, "src");
  return {
    tag: attributes ? "a" : "span",
    attributes: { ...attributes, class: "image" },
    children: [
      ...viewsOf(token.children ?? [], true),
      { tag: "span", attributes: { class: "kind" }, children: text(` (${say("image")})`) },
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
