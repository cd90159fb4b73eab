/**
 * The structure of Markdown as lines, one a node, to compare the renderer's with that of HTML of a specification.
 *
 * The renderer's nodes differ from HTML's in known ways: addresses are encoded by `encoded`; a soft line break is a `br`; a
 * paragraph of a tight list is one, with a class on the list; images are links; a task's box is a character; code has a caption.
 */

const ADDRESS = "https://address.example/?to=";

/** Let every address be one that the renderer allows. @param {string} address */
export const encoded = (address) => ADDRESS + encodeURIComponent(address);

/** @param {string} address */
function decoded(address) {
  const raw = address.startsWith(ADDRESS) ? decodeURIComponent(address.slice(ADDRESS.length)) : address;
  try {
    return decodeURI(raw.replaceAll("&amp;", "&"));
  } catch {
    return decodeURI(encodeURI(raw).replaceAll("%25", "%"));
  }
}

/** @typedef {{name: string, attributes: string, children: (Shape | string)[]}} Shape */

const BLOCKS = new Set(
  "root p h1 h2 h3 h4 h5 h6 ul ol li blockquote hr pre table thead tbody tr th td".split(" "),
);

/** @param {ParentNode} root of the renderer's nodes */
export const structureOf = (root) => lines({ name: "root", attributes: "", children: shapes(root) });

/** @param {string} html */
export function structureOfHtml(html) {
  const body = new DOMParser().parseFromString(html, "text/html").body;
  return lines({ name: "root", attributes: "", children: shapes(body) });
}

/** @param {ParentNode} parent @returns {(Shape | string)[]} */
function shapes(parent) {
  return [...parent.childNodes].flatMap((node) => {
    if (node instanceof Text) {
      return parent instanceof Element && parent.closest("pre, code") ? [node.data] : withBreaks(node);
    }
    return node instanceof Element && !node.hasAttribute("hidden") ? shape(node) : [];
  });
}

/** @param {Text} node */
function withBreaks(node) {
  const isBehindBreak = node.previousSibling?.nodeName === "BR";
  const text = isBehindBreak ? node.data.replace(/^\n/, "") : node.data;
  return text.split("\n").flatMap((line, index) => [...(index > 0 ? [named("br")] : []), line]);
}

/** @param {string} name @param {string} [attributes] @param {(Shape | string)[]} [children] @returns {Shape} */
const named = (name, attributes = "", children = []) => ({ name, attributes, children });

/** @param {Element} element @returns {(Shape | string)[]} */
function shape(element) {
  const name = element.localName;
  const kind = element.getAttribute("class") ?? "";
  if (name === "div" && (kind === "" || kind === "table")) {
    return shapes(element);
  }
  if (kind === "image" || name === "img") {
    const alt = element.getAttribute("alt") ?? String(element.textContent).replaceAll(" (image)", "");
    const address = element.getAttribute("src") ?? element.getAttribute("href") ?? "";
    return [named("img", `${decoded(address)} ${titleOf(element)} ${alt}`)];
  }
  if (kind === "checkbox" || name === "input") {
    return [named("input", String(element.textContent === "☑" || element.hasAttribute("checked")))];
  }
  if (name === "figure" || name === "pre") {
    const code = element.querySelector("code");
    const text = String(code?.textContent);
    const info = element.querySelector("figcaption span")?.textContent?.split(/\s/)[0];
    const language = info ?? /language-(\S*)/.exec(code?.className ?? "")?.[1] ?? "";
    return [named("pre", language, [name === "pre" ? text.replace(/\n$/, "") : text])];
  }
  const children = shapes(element);
  if (name === "del") {
    return [named("s", "", children)];
  }
  if (name === "li" && element.parentElement?.classList.contains("tight")) {
    return [named(name, "", children.flatMap(unwrapped))];
  }
  return name === "tbody" && children.every(isBlank) ? [] : [named(name, attributesOf(element), children)];
}

/** @param {Shape | string} child */
const unwrapped = (child) => (typeof child === "object" && child.name === "p" ? child.children : [child]);

/** @param {Shape | string} child */
const isBlank = (child) => typeof child === "string" && child.trim() === "";

/** @param {Element} element */
function attributesOf(element) {
  switch (element.localName) {
    case "a":
      if (element.getAttribute("href")?.startsWith("#")) {
        return String(element.getAttribute("href")).replace(/-\d+-/, "-"); // of a footnote, with the answer's number
      }
      return `${decoded(element.getAttribute("href") ?? "")} ${titleOf(element)}`;
    case "ol":
      return element.getAttribute("start") ?? "";
    case "th":
    case "td":
      return element.getAttribute("align") ?? element.getAttribute("class") ?? "";
    default:
      return "";
  }
}

/** The renderer's title has the address in its first line. @param {Element} element */
function titleOf(element) {
  const title = element.getAttribute("title") ?? "";
  return element.hasAttribute("rel") ? title.split("\n").slice(1).join("\n") : title;
}

/** @param {Shape} shape @param {string} indent @returns {string} */
function lines({ name, attributes, children }, indent = "") {
  const own = `${indent}${name} ${attributes}`.trimEnd();
  const inner = name === "pre" ? children : tidy(children, BLOCKS.has(name));
  const below = inner.map((child) =>
    typeof child === "string" ? `${indent}  ${JSON.stringify(child)}` : lines(child, `${indent}  `),
  );
  return [own, ...below].join("\n");
}

/**
 * Join texts, and leave out the blanks and breaks beside blocks.
 *
 * @param {(Shape | string)[]} children
 * @param {boolean} isBlock whether they are in a block
 */
function tidy(children, isBlock) {
  /** @type {(Shape | string)[]} */
  const joined = [];
  for (const child of children) {
    const last = joined.at(-1);
    if (typeof child === "string" && typeof last === "string") {
      joined[joined.length - 1] = last + child;
    } else if (child !== "") {
      joined.push(child);
    }
  }
  /** @param {Shape | string | undefined} other */
  const isEdge = (other) =>
    other === undefined ? isBlock : typeof other === "object" && BLOCKS.has(other.name);
  for (let index = 0; index < joined.length; index += 1) {
    const child = joined[index];
    const isGap = typeof child === "object" ? child.name === "br" : child?.trim() === "";
    if (isGap && (isEdge(joined[index - 1]) || isEdge(joined[index + 1]))) {
      joined.splice(index, 1);
      index = -1;
    }
  }
  return joined;
}
