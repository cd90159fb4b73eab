import * as smd from "streaming-markdown";
import { codeBlock } from "./code.js";
import { make } from "./elements.js";
import { label, say } from "./words.js";

/**
 * The parser looks ahead without bound in a few places (a link's address, a fence's name), and each further character
 * costs it the whole of what it has looked ahead. Nothing that people read is longer than this.
 */
const LONGEST_LOOKAHEAD = 4096;
/** Its stack holds 24; deeper nesting is shown flat. */
const DEEPEST = 20;
const SLICE = 1024;

/**
 * Blocks lie in parts of so many: a browser that lays out a growing answer skips a part that has not changed, but looks
 * at each block of one list. With 20,000 paragraphs side by side a frame took 66 ms, in parts it takes 17.
 */
const BLOCKS_A_PART = 64;
/** For the same reason: what is appended to a text node has the whole of it shaped anew. */
const LONGEST_TEXT_NODE = 2048;

/** A row of a million cells would be one text's way to stop the page. */
const MOST_CELLS = 100;

/** @typedef {{nodes: Node[], lastHeading: number, text: string}} Place where the parser is, and text not yet shown there */

/**
 * Markdown as it streams, built as DOM nodes.
 *
 * @param {HTMLElement} root
 */
export function createMarkdown(root) {
  /** @type {Place} */
  const place = { nodes: [root], lastHeading: 2, text: "" };
  const parser = smd.parser(rendererInto(place));
  /** @type {HTMLElement | null} */
  let plain = null;

  /** What the parser cannot digest is shown as it is. @param {string} text */
  const giveUp = (text) => {
    showText(place);
    plain = make("p", { class: "plain", dir: "auto" }, text);
    partOf(root).appendChild(plain);
  };

  return {
    /** @param {string} text */
    write(text) {
      let at = 0;
      while (at < text.length) {
        const slice = pieceOf(text, at, SLICE);
        at += slice.length;
        if (plain) {
          appendText(plain, slice);
          continue;
        }
        try {
          smd.parser_write(parser, slice);
        } catch {
          giveUp(slice);
          continue;
        }
        if (parser.pending.length > LONGEST_LOOKAHEAD) {
          giveUp(parser.pending);
        }
      }
      showText(place);
    },
    end() {
      if (!plain) {
        try {
          smd.parser_end(parser);
        } catch {
          giveUp(parser.pending);
        }
        showText(place);
      }
    },
  };
}

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

/** @param {string} address @returns {string | null} */
function safeAddress(address) {
  // Without a base: what is not an address by itself leads nowhere.
  const url = URL.canParse(address) ? new URL(address) : null;
  return url && (url.protocol === "https:" || url.protocol === "http:") ? url.href : null;
}

/** @param {Node} node @param {string} address */
function leadTo(node, address) {
  const safe = safeAddress(address);
  if (!(node instanceof HTMLAnchorElement) || safe === null) {
    return;
  }
  node.href = safe;
  node.rel = "noopener noreferrer";
  node.target = "_blank";
  node.title = safe;
}

/** @param {string} tag */
const directed = (tag) => make(/** @type {"p"} */ (tag), { dir: "auto" });

/**
 * @param {Place} place
 * @returns {smd.Any_Renderer}
 */
function rendererInto(place) {
  return { data: place, add_token: addToken, end_token: endToken, add_text: addText, set_attr: setAttribute };
}

/** @param {Place} place */
const here = (place) => /** @type {Node} */ (place.nodes.at(-1));

/**
 * @param {Place} place
 * @param {smd.Token} token
 */
function addToken(place, token) {
  showText(place);
  const parent = here(place);
  if (token === smd.TABLE_CELL && parent.childNodes.length >= MOST_CELLS) {
    place.nodes.push(/** @type {Node} */ (parent.lastChild));
    return;
  }
  if (place.nodes.length > DEEPEST) {
    place.nodes.push(parent);
    return;
  }
  const node = create(place, token, parent);
  // A row goes into the head or the body, and a code block's text into the innermost of its elements.
  place.nodes.push(node.into);
  if (node.outer) {
    (place.nodes.length === 2 ? partOf(parent) : parent).appendChild(node.outer);
  }
}

/** @param {Node} root */
function partOf(root) {
  const last = root.lastChild;
  return last && last.childNodes.length < BLOCKS_A_PART ? last : root.appendChild(make("div"));
}

/**
 * @param {Place} place
 * @param {smd.Token} token
 * @param {Node} parent
 * @returns {{outer: Node | null, into: Node}}
 */
function create(place, token, parent) {
  const heading = smd.heading_to_level(token);
  if (heading > 0) {
    // The question is a heading of level 2; a level that is left out would lose who moves from heading to heading.
    place.lastHeading = Math.min(heading + 2, place.lastHeading + 1, 6);
    return same(directed(`h${place.lastHeading}`));
  }
  switch (token) {
    case smd.BLOCKQUOTE:
      return same(make("blockquote"));
    case smd.LINE_BREAK:
      return same(make("br"));
    case smd.RULE:
      return same(make("hr"));
    case smd.ITALIC_AST:
    case smd.ITALIC_UND:
      return same(make("em"));
    case smd.STRONG_AST:
    case smd.STRONG_UND:
      return same(make("strong"));
    case smd.STRIKE:
      return same(make("s"));
    case smd.CODE_INLINE:
    case smd.EQUATION_INLINE:
      return same(make("code"));
    case smd.RAW_URL:
    case smd.LINK:
      return same(make("a"));
    case smd.IMAGE:
      // Shown as a link: loading it would tell its server who reads this. A link in a link is none.
      return same(make(parent instanceof HTMLAnchorElement ? "span" : "a", { class: "image" }));
    case smd.LIST_UNORDERED:
      return same(make("ul"));
    case smd.LIST_ORDERED:
      return same(make("ol"));
    case smd.LIST_ITEM:
      return same(directed("li"));
    case smd.CHECKBOX:
      return same(make("span", { class: "checkbox" }, "☐"));
    case smd.CODE_BLOCK:
    case smd.CODE_FENCE:
    case smd.EQUATION_BLOCK: {
      const block = codeBlock();
      return { outer: block.figure, into: block.code };
    }
    case smd.TABLE: {
      const table = make("table");
      const frame = label(
        make("div", { class: "table", role: "group", tabindex: "0" }, table),
        "table",
        "label",
      );
      return { outer: frame, into: table };
    }
    case smd.TABLE_ROW:
      return row(parent);
    case smd.TABLE_CELL:
      return same(
        directed(parent.parentNode instanceof Element && parent.parentNode.tagName === "THEAD" ? "th" : "td"),
      );
    default:
      return same(directed("p"));
  }
}

/** @param {Node} node */
const same = (node) => ({ outer: node, into: node });

/** @param {Node} table */
function row(table) {
  const into = make("tr");
  const [head, body] = table.childNodes;
  if (body) {
    body.appendChild(into);
    return { outer: null, into };
  }
  return { outer: make(head ? "tbody" : "thead", {}, into), into };
}

/** @param {Place} place */
function endToken(place) {
  showText(place);
  const node = place.nodes.pop();
  if (node instanceof HTMLElement && node.tagName === "CODE" && node !== here(place)) {
    node.dispatchEvent(new Event("whole"));
  }
}

/**
 * @param {Place} place
 * @param {string} text
 */
function addText(place, text) {
  place.text += text; // the parser gives some texts letter by letter
}

/** @param {Place} place */
function showText(place) {
  const { text } = place;
  place.text = "";
  const node = here(place);
  if (text === "") {
    return;
  }
  appendText(node, text);
}

/** @param {Node} node @param {string} text */
function appendText(node, text) {
  if (node.lastChild instanceof Text && node.lastChild.length < LONGEST_TEXT_NODE) {
    node.lastChild.appendData(text);
  } else {
    node.appendChild(document.createTextNode(text));
  }
}

/**
 * @param {Place} place
 * @param {smd.Attr} attribute
 * @param {string} value
 */
function setAttribute(place, attribute, value) {
  showText(place);
  const node = here(place);
  switch (attribute) {
    case smd.HREF:
      leadTo(node, value);
      break;
    case smd.SRC:
      leadTo(node, value);
      node.appendChild(make("span", { class: "kind" }, ` (${say("image")})`));
      break;
    case smd.LANG:
      if (node instanceof HTMLElement) {
        node.dataset.language = value.trim().split(/\s/, 1)[0];
        node.dispatchEvent(new Event("named"));
      }
      break;
    case smd.CHECKED:
      node.textContent = "☑";
      break;
    case smd.START:
      if (node instanceof HTMLOListElement && /^\d{1,9}$/.test(value)) {
        node.start = Number(value);
      }
      break;
  }
}
