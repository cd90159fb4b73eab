import { afterEach, beforeEach, expect, test } from "vitest";
import { createMarkdown } from "./index.js";

/** @type {HTMLElement} */
let root;
/** @type {(text: string, isEnd?: boolean) => void} */
let show;

beforeEach(() => {
  root = document.body.appendChild(document.createElement("div"));
  const markdown = createMarkdown(root, { highlighter: null, maths: null });
  show = (text, isEnd = false) => {
    while (!markdown.show(text, isEnd));
  };
});

afterEach(() => root.remove());

const MORE = "\n\nfurther words\n\nand more\n\nend\n";

test("a reference becomes a link when its definition comes, and nothing else changes", () => {
  const text = "See [the page] and [it][page].\n\nOther words.\n\n- an item with [page]\n\n" + MORE;
  show(text);
  const before = [...root.querySelectorAll("p, li")];
  expect(root.querySelector("a")).toBeNull();
  show(`${text}\n[page]: https://example.com/page "Title"\n${MORE}`);
  expect([...root.querySelectorAll("a")].map(({ href, textContent }) => [href, textContent])).toEqual([
    ["https://example.com/page", "it"],
    ["https://example.com/page", "page"],
  ]);
  expect([...root.querySelectorAll("p, li")].slice(0, before.length)).toEqual(before);
  expect(root.textContent).toContain("See [the page] and it.");
});

test("a definition that comes first holds, and one that grows is no definition yet", () => {
  show("[a]\n\n[a]: https://example.com/fir");
  expect(root.querySelector("a")).toBeNull();
  show("[a]\n\n[a]: https://example.com/first\n\n[a]: https://example.com/second\n", true);
  expect(root.querySelector("a")?.href).toBe("https://example.com/first");
});

test("a definition is shown until something refers to it", () => {
  const text = `[1]: https://example.com/source${MORE}`;
  show(text);
  expect(/** @type {HTMLElement} */ (root.querySelector(".definition")).hidden).toBe(false);
  show(`${text}\nAs they [say][1], and so on.\n`);
  expect(root.querySelector("a")?.href).toBe("https://example.com/source");
  expect(/** @type {HTMLElement} */ (root.querySelector(".definition")).hidden).toBe(true);
});

test("a definition that leads nowhere permitted stays text, and so does what refers to it", () => {
  show("[x][1] and ![y][1]\n\n[1]: javascript:alert(1)\n[2]: /relative\n", true);
  expect(root.querySelector("a")).toBeNull();
  expect(root.textContent).toContain("[x][1] and ![y][1]");
  expect(root.textContent).toContain("[1]: javascript:alert(1)");
});

test("a footnote and what refers to it lead to each other, and the page's address stays", () => {
  const address = location.href;
  const text = `As said[^1] by many[^many].${MORE}`;
  show(text);
  expect(root.textContent).toContain("said[^1] by");
  show(`${text}\n[^1]: The *first*.\n\n    - with a list\n\n[^many]: Many.\n${MORE}`);
  const [reference] = root.querySelectorAll("sup a");
  const [note, many] = root.querySelectorAll(".footnote");
  expect(root.querySelectorAll("sup a")).toHaveLength(2);
  expect(note?.querySelector("li")?.textContent).toBe("with a list");
  expect(many?.textContent).toBe("manyMany.");
  /** @type {HTMLElement} */ (reference).click();
  expect(document.activeElement).toBe(note?.querySelector("a"));
  note?.querySelector("a")?.click();
  expect(document.activeElement).toBe(reference);
  expect(location.href).toBe(address);
});

test("two answers' footnotes do not lead to each other", () => {
  show("a[^1]\n\n[^1]: b\n", true);
  const other = document.body.appendChild(document.createElement("div"));
  while (!createMarkdown(other).show("a[^1]\n\n[^1]: b\n", true));
  other.querySelector("a")?.click();
  expect(document.activeElement).toBe(other.querySelector(".footnote a"));
  other.remove();
});
