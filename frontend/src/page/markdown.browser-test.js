import { afterEach, beforeEach, describe, expect, test } from "vitest";
import HOSTILE from "../../test/hostile.json";
import { createMarkdown, pieceOf } from "./markdown.js";

const ELEMENTS = new Set(
  "A BLOCKQUOTE BR BUTTON CODE DIV EM FIGCAPTION FIGURE H3 H4 H5 H6 HR LI OL P PRE S SPAN STRONG TABLE TBODY TD TH THEAD TR UL".split(
    " ",
  ),
);
const ATTRIBUTES = new Set(
  "aria-label class data-language data-saylabel data-saytext dir href rel role start tabindex target title type".split(
    " ",
  ),
);

/** @type {HTMLElement} */
let root;

beforeEach(() => {
  root = document.createElement("div");
  document.body.append(root);
});

afterEach(() => root.remove());

/** @param {string[]} pieces */
function render(...pieces) {
  root.replaceChildren();
  const markdown = createMarkdown(root);
  for (const piece of pieces) {
    markdown.write(piece);
  }
  markdown.end();
  return root;
}

function expectHarmless() {
  for (const element of root.querySelectorAll("*")) {
    expect(ELEMENTS, element.tagName).toContain(element.tagName);
    for (const { name } of element.attributes) {
      expect(ATTRIBUTES, element.tagName).toContain(name);
    }
    if (element instanceof HTMLAnchorElement && element.hasAttribute("href")) {
      expect(element.href).toMatch(/^https?:\/\//);
      expect(element.getAttribute("href"), "relative").toMatch(/^https?:\/\//);
      expect(element.rel).toBe("noopener noreferrer");
      expect(element.querySelector("a")).toBeNull();
    }
  }
}

describe("hostile text", () => {
  for (const [name, text] of Object.entries(HOSTILE)) {
    test(`${name} makes nothing but harmless nodes, wherever it is cut`, () => {
      render(text);
      expectHarmless();
      render(...text);
      expectHarmless();
      const whole = root.textContent;
      for (let cut = 1; cut < text.length; cut += 1) {
        render(text.slice(0, cut), text.slice(cut));
        expectHarmless();
        expect(root.textContent).toBe(whole);
      }
    });
  }
});

/** @param {() => void} work */
function milliseconds(work) {
  const began = performance.now();
  work();
  return performance.now() - began;
}

describe("a megabyte", () => {
  const million = 1024 * 1024;
  for (const [name, text] of Object.entries({
    "without a line break": "x".repeat(million),
    "of words": "word ".repeat(million / 5),
    "of an address that does not end": `[x](https://evil.example/${"x".repeat(million)}`,
    "of an image's address that does not end": `![x](https://evil.example/${"x".repeat(million)}`,
    "of a fence's name that does not end": `\`\`\`${"x".repeat(million)}`,
    "of brackets": "[".repeat(million),
    "of stars": "*".repeat(million),
    "of backticks": "`".repeat(million),
    "of hyphens": "-".repeat(million),
    "of digits": "1".repeat(million),
    "of a table's rule": `|a|\n|${"-".repeat(million)}`,
    "of quotes": "> ".repeat(million / 2),
    "of pipes": "|".repeat(million),
    "of spaces": " ".repeat(million),
    "of dollars": "$".repeat(million),
    "of angles": "<".repeat(million),
  })) {
    test(`${name} takes time in proportion to its length`, () => {
      const quarter = milliseconds(() => render(text.slice(0, text.length / 4)));
      const whole = milliseconds(() => render(text));
      // Four times as much: proportion is 4, the square of it 16. What takes next to no time proves nothing.
      expect(whole / Math.max(quarter, 50)).toBeLessThan(10);
      expectHarmless();
    });
  }
});

test("deep nesting is shown flat and loses no text", () => {
  render(`${">".repeat(200)} deep`);
  expect(root.textContent).toContain("deep");
  render(Array.from({ length: 100 }, (_, depth) => `${"  ".repeat(depth)}- level${depth}`).join("\n"));
  expect(root.textContent).toContain("level99");
  render(`${"*_".repeat(300)}inside`);
  expect(root.textContent).toContain("inside");
  expectHarmless();
});

test("markdown becomes what it means", () => {
  render(
    "# One\n\nA **bold** and *slanted* `code` [link](https://example.com/).\n\n- a\n- b\n\n> said\n\n|x|y|\n|-|-|\n|1|2|\n\n3. three\n\n---\n\n~~gone~~\n",
  );
  expect(root.querySelector("h3")?.textContent).toBe("One");
  expect(root.querySelector("strong")?.textContent).toBe("bold");
  expect(root.querySelector("em")?.textContent).toBe("slanted");
  expect(root.querySelector("p code")?.textContent).toBe("code");
  expect(root.querySelector("a")?.href).toBe("https://example.com/");
  expect(root.querySelectorAll("ul > li")).toHaveLength(2);
  expect(root.querySelector("blockquote")?.textContent).toContain("said");
  expect(root.querySelectorAll("thead th")).toHaveLength(2);
  expect(root.querySelectorAll("tbody td")).toHaveLength(2);
  expect(root.querySelector("ol")?.start).toBe(3);
  expect(root.querySelectorAll("hr, s")).toHaveLength(2);
});

test("no level of headings is left out", () => {
  render("###### six\n\n# one\n\n#### four\n\n## two\n");
  expect([...root.querySelectorAll("h3, h4, h5, h6")].map(({ tagName }) => tagName)).toEqual([
    "H3",
    "H3",
    "H4",
    "H4",
  ]);
});

test("tasks show whether they are done", () => {
  render("- [x] done\n- [ ] open\n");
  expect([...root.querySelectorAll("li")].map(({ textContent }) => textContent)).toEqual([
    "☑ done",
    "☐ open",
  ]);
});

test("an image is a link to it", () => {
  render("![a river](https://example.com/river.png)\n");
  const link = root.querySelector("a");
  expect(link?.href).toBe("https://example.com/river.png");
  expect(link?.textContent).toMatch(/^a river \((image|kép)\)$/);
});

test("code is coloured once it is whole", async () => {
  const markdown = createMarkdown(root);
  markdown.write("```python\ndef f():\n");
  expect(root.querySelector("figcaption span")?.textContent).toBe("python");
  expect(root.querySelector("pre span")).toBeNull();
  markdown.write("    return 1\n```\n\nafter\n");
  await expect.poll(() => root.querySelector(".hljs-keyword")?.textContent, { timeout: 10_000 }).toBe("def");
  expect(root.querySelector("pre")?.textContent).toContain("def f():\n    return 1");
});

test("no character is cut in two", () => {
  const text = "a😀b😀";
  expect(pieceOf(text, 0, 2)).toBe("a😀");
  expect(pieceOf(text, 0, 1)).toBe("a");
  expect(pieceOf(text, 3, 100)).toBe("b😀");
});
