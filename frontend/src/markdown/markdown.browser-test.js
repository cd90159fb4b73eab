import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ANSWERS } from "../../test/answers.js";
import HOSTILE from "../../test/hostile.json";
import CASES from "../../test/markdown-cases.json";
import { createMarkdown as createWith } from "./index.js";
import { pieceOf } from "./text-nodes.js";

const ELEMENTS = new Set(
  "A BLOCKQUOTE BR BUTTON CODE DIV EM FIGCAPTION FIGURE H1 H2 H3 H4 H5 H6 HR LI OL P PRE S SPAN STRONG SUP TABLE TBODY TD TH THEAD TR UL".split(
    " ",
  ),
);
const ATTRIBUTES = new Set(
  "aria-label aria-pressed class dir hidden href id rel role start tabindex target title type value".split(
    " ",
  ),
);

/** @type {HTMLElement} */
let root;

/** Without what loads later: the same nodes each time. @param {HTMLElement} place */
const createMarkdown = (place) => createWith(place, { highlighter: null, maths: null });

beforeEach(() => {
  root = document.createElement("div");
  document.body.append(root);
});

afterEach(() => root.remove());

/** @param {string[]} pieces */
function render(...pieces) {
  root.replaceChildren();
  const markdown = createMarkdown(root);
  let text = "";
  for (const piece of pieces) {
    text += piece;
    markdown.show(text, false);
  }
  while (!markdown.show(text, true));
  return root;
}

/** One comparison: an `expect` for each of hundreds of thousands of nodes would take longer than to render them. */
function expectHarmless() {
  const harmful = [...root.querySelectorAll("*")].filter((element) => !isHarmless(element));
  expect(harmful.map(markupOf)).toEqual([]);
}

/** @param {Element} element */
const markupOf = (element) => new XMLSerializer().serializeToString(element);

/** @param {Element} element */
function isHarmless(element) {
  return (
    ELEMENTS.has(element.tagName) &&
    element.getAttributeNames().every((name) => ATTRIBUTES.has(name)) &&
    (!(element instanceof HTMLAnchorElement) || isHarmlessLink(element))
  );
}

/** @param {HTMLAnchorElement} link */
function isHarmlessLink(link) {
  return (
    /^#(?:note|from)-\d+-\d+$/.test(link.hash) ||
    (/^https?:\/\//.test(link.href) &&
      /^https?:\/\//.test(link.getAttribute("href") ?? "") && // not relative
      link.rel === "noopener noreferrer" &&
      link.querySelector("a") === null)
  );
}

/** Ids have the number of the answer in them. */
const markup = () => new XMLSerializer().serializeToString(root).replace(/((?:note|from)-)\d+/g, "$1");

/** What a reader sees, without the page's own words. Must not be called twice for what is still being shown. */
function seen() {
  for (const own of root.querySelectorAll("button, .kind")) {
    own.remove();
  }
  return root.innerText.split(/\s+/).join(" ").trim();
}

describe("an answer", () => {
  for (const [name, [markdown, text]] of Object.entries(ANSWERS)) {
    test(`keeps its text, and is the same however it comes: ${name}`, () => {
      render(markdown);
      const whole = markup();
      for (const length of [1, 2, 3, 7, 40]) {
        render(...piecesOfLength(markdown, length));
        expect(markup(), `in pieces of ${length}`).toBe(whole);
      }
      for (let cut = 0; cut < markdown.length; cut += 5) {
        root.replaceChildren();
        const { show } = createMarkdown(root);
        while (!show(markdown.slice(0, cut), true));
        while (!show(markdown, true));
        expect(markup(), `going on after an end at ${cut}`).toBe(whole);
      }
      expect(seen()).toBe(text);
    });
  }
});

/** @param {string} text @param {number} length */
function piecesOfLength(text, length) {
  return Array.from({ length: Math.ceil(text.length / length) }, (_, n) =>
    text.slice(n * length, (n + 1) * length),
  );
}

const MARKS =
  "* ** _ __ ` `` ``` ~~~ ~~ > | \\ [ ]( ( ) < & # $$ \\( \\) - + 1. 7) [x] --- === |-| |-|-| ![ : https://e.example/";

/** Random marks between numbered words. @param {() => number} random below 1 */
function soup(random) {
  /** @template T @param {T[]} all */
  const one = (all) => /** @type {T} */ (all[Math.floor(random() * all.length)]);
  const marks = MARKS.split(" ");
  let text = "";
  for (let word = 1; word <= 40; word += 1) {
    const blank = one([" ", " ", "", "\n", "\n", "\n\n", "\n  ", "\n   ", "\n\n    ", "\r\n", "\t"]);
    text += one([one(marks), one(marks), ""]) + one(["", " "]) + one(["", `w${word}`]) + blank;
  }
  return text;
}

/** Mulberry32: the same numbers each time. @param {number} seed */
function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

test("no word is lost, doubled or moved, whatever marks are between them and wherever it is cut", () => {
  for (let seed = 1; seed <= 500; seed += 1) {
    const random = randomFrom(seed);
    const markdown = soup(random);
    render(markdown);
    const whole = markup();
    expectHarmless();
    render(...piecesOfLength(markdown, 1 + Math.floor(random() * 9)));
    expect(markup(), JSON.stringify(markdown)).toBe(whole);
    expect(seen().match(/w\d+/g), JSON.stringify(markdown)).toEqual(markdown.match(/w\d+/g));
  }
});

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

/**
 * Whether some work takes time in proportion to its length, or nearly.
 *
 * @param {(length: number) => void} work for a part of the whole length, from 0 to 1
 * @param {number} nothing milliseconds of a quarter of the work that prove nothing
 */
function isInProportion(work, nothing) {
  const ratio = () => {
    const quarter = milliseconds(() => work(1 / 4));
    const whole = milliseconds(() => work(1));
    return whole / Math.max(quarter, nothing);
  };
  // Four times as much: proportion is 4, the square of it 16. A busy machine may slow one measurement down, but not all.
  return [ratio, ratio, ratio].some((measure) => measure() < 10);
}

describe("up to a megabyte", () => {
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
    "of names that do not end": ".__a".repeat(million / 4),
    "of formulas that do not end": "\\(".repeat(million / 2),
    // An eighth of a megabyte: each line is a node, and a megabyte of them takes a browser ten seconds.
    "of lines with the beginning of a formula": "\\[\n".repeat(million / 24),
    "of lines with beginnings, and an end in the middle of a line": `${"\\[\n".repeat(600)}\\] x\n`.repeat(
      million / 9000,
    ),
    "of lines with beginnings, and an end behind a blank line": `${"$$\n".repeat(600)}\n`.repeat(
      million / 9000,
    ),
    "of items in items": "- ".repeat(million / 2),
    "of parentheses behind an address": `https://a.example/${")".repeat(million)}`,
    "of addresses that are none": "http://!".repeat(million / 8),
    "of underscores in a domain": `www.${"_".repeat(million)}.a.b`,
    "of carriage returns": "\r".repeat(million),
  })) {
    test(`${name} takes time in proportion to its length`, () => {
      expect(isInProportion((part) => render(text.slice(0, text.length * part)), 50)).toBe(true);
      expectHarmless();
    });
  }
});

describe("a browser looks for the direction of a block once, not once for each node in it", () => {
  for (const [name, text] of Object.entries({
    "a paragraph of marks": "*_".repeat(20_000),
    "a paragraph of lines": "x\n".repeat(20_000),
    "a paragraph in a list": `- a\n- ${"x  \n  ".repeat(8000)}`,
    "a list": "- a\n".repeat(10_000),
    "what is removed again": "*a*".repeat(17_000),
  })) {
    test(name, () => {
      let looks = 0;
      /** @param {Node | null} place */
      const look = (place) => {
        looks += place instanceof Element && place.closest("[dir=auto]") ? 1 : 0;
      };
      const { append, remove } = Element.prototype;
      vi.spyOn(Element.prototype, "append").mockImplementation(
        /** @this {Element} @param {(Node | string)[]} nodes */ function (...nodes) {
          look(this);
          append.apply(this, nodes);
        },
      );
      vi.spyOn(Element.prototype, "remove").mockImplementation(
        /** @this {Element} */ function () {
          look(this.parentNode);
          remove.call(this);
        },
      );
      render(text);
      vi.restoreAllMocks();
      expect(looks).toBeLessThan(100);
      expect(root.querySelectorAll("[dir=ltr]")).toHaveLength(0);
    });
  }
});

describe("a long block that stays open", () => {
  const LONG = 200_000;
  const A_FRAME = 500;
  for (const [name, begin, line] of [
    ["a fence", "```js\n", "  const some_name = await another(name);\n"],
    ["a fence in a list", "- item\n\n  ```js\n", "  const some_name = await another(name);\n"],
    ["a list", "", "1. an **item** with `code_x` and words\n"],
    ["a list with paragraphs", "", "- an **item**\n\n  with `code_x`\n\n"],
    ["a nested list", "- item\n", "  - an **item** with `code_x` and words\n"],
    ["a quote", "", "> words and **bold** words of another\n"],
    ["a table", "| a | b |\n|---|---|\n", "| `code_x` in a cell | **bold** words |\n"],
    ["a paragraph of lines", "", "words and **bold** words and `code_x`\n"],
    ["a paragraph of one line", "", "words and **bold** words and `code_x` "],
  ]) {
    test(`takes no more of a frame than its share: ${name}`, () => {
      const text = begin + String(line).repeat(LONG / String(line).length);
      const show = (/** @type {number} */ part) =>
        render(...piecesOfLength(text.slice(0, LONG * part), A_FRAME));
      // A quarter's frames may take four milliseconds each.
      expect(isInProportion(show, (LONG / 4 / A_FRAME) * 4)).toBe(true);
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
  expect(root.querySelector("h1")?.textContent).toBe("One");
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

test("a page says which level a heading has", () => {
  const { show } = createWith(root, { headingLevel: (level, previous) => Math.min(level, previous + 1) + 1 });
  while (!show("###### six\n\n# one\n\n#### four\n\n## two\n", true));
  expect([...root.querySelectorAll("h1, h2, h3, h4, h5, h6")].map(({ tagName }) => tagName)).toEqual([
    "H2",
    "H2",
    "H4",
    "H3",
  ]);
});

/** What each case must do. @type {Record<string, () => void>} */
const MUST = {
  snake_case: () => expectText("em", "max_tokens and user_id together; open src/my_module/file_name.py."),
  globs: () => expectText("em", "*.py and *.js"),
  "shell variables": () => expectText("code, .formula", "$HOME and $PATH"),
  "code in a loose list": () => {
    expect(root.querySelectorAll("ol")).toHaveLength(1);
    expect([...root.querySelectorAll("ol > li code")].map(({ textContent }) => textContent)).toEqual([
      "npm i",
      "npm start",
    ]);
  },
  "quote in a list": () => {
    expect(root.querySelectorAll("ul")).toHaveLength(1);
    expect(root.querySelector("li")?.querySelector("blockquote")?.textContent).toBe("quote");
    expect(root.querySelectorAll("li")).toHaveLength(2);
  },
  "link with parentheses": () => {
    expect(root.querySelector("a")?.href).toMatch(/Foo_\(bar\)$/);
    expect(root.querySelector("a")?.nextSibling?.textContent).toBe(".");
  },
  "link with a title": () => expect(root.querySelector("a")?.href).toBe("https://example.com/a"),
  "bare address before a full stop": () =>
    expect([...root.querySelectorAll("a")].map(({ pathname }) => pathname)).toEqual(["/a", "/b"]),
  CRLF: () => expect([...root.querySelectorAll("p")].at(-1)?.textContent).toBe("after"),
};

/** @param {string} none what must not be there @param {string} text what must */
function expectText(none, text) {
  expect(root.querySelector(none)).toBeNull();
  expect(root.textContent).toContain(text);
}

describe("as its `must` says", () => {
  for (const { name, markdown, must } of CASES) {
    test(`${name}: ${must}`, () => {
      render(markdown);
      MUST[name]?.();
      render(...markdown);
      MUST[name]?.();
      expect(MUST).toHaveProperty(name);
    });
  }
});

test("tasks show whether they are done", () => {
  render("- [x] done\n- [ ] open\n");
  expect([...root.querySelectorAll("li")].map(({ textContent }) => textContent)).toEqual([
    "☑ done",
    "☐ open",
  ]);
});

test("an address is a link as far as it goes, and with its scheme only", () => {
  render(
    "See https://example.com/a. Then https://example.com/b, <https://example.com/c>, main.py, a@example.com, " +
      '[d](https://example.com/d_(e)) and [f](https://example.com/f "Title").',
  );
  expect([...root.querySelectorAll("a")].map(({ href, title }) => [href, title])).toEqual([
    ["https://example.com/a", "https://example.com/a"],
    ["https://example.com/b", "https://example.com/b"],
    ["https://example.com/c", "https://example.com/c"],
    ["https://example.com/d_(e)", "https://example.com/d_(e)"],
    ["https://example.com/f", "https://example.com/f\nTitle"],
  ]);
});

test("an address without a scheme is found behind one that is none", () => {
  render(
    "a-www.none.example *www.one.example* awww.none (www.two.example) www. www.three.example/x www.a_b.c www.four.example",
  );
  expect([...root.querySelectorAll("a")].map(({ host }) => host)).toEqual([
    "www.one.example",
    "www.two.example",
    "www.three.example",
    "www.four.example",
  ]);
  expect(root.textContent).toContain(
    "awww.none (www.two.example) www. www.three.example/x www.a_b.c www.four",
  );
});

test("the search for addresses takes time in proportion to the text", () => {
  const parts = (/** @type {number} */ part) => render("www.a ".repeat(8000 * part));
  expect(isInProportion(parts, 20)).toBe(true);
});

test("an image is a link to it", () => {
  render("![a river](https://example.com/river.png)\n");
  const link = root.querySelector("a");
  expect(link?.href).toBe("https://example.com/river.png");
  expect(link?.textContent).toMatch(/^a river \((image|kép)\)$/);
});

test("a selection stays while the paragraph grows", () => {
  const markdown = createMarkdown(root);
  markdown.show("Some words and **bold", false);
  const node = /** @type {Node} */ (root.querySelector("p")?.firstChild);
  getSelection()?.setBaseAndExtent(node, 5, node, 10);
  markdown.show("Some words and **bold** ones, `code` and [a link](https://example.com/)", true);
  expect(root.querySelector("p")?.textContent).toBe("Some words and bold ones, code and a link");
  expect(String(getSelection())).toBe("words");
});

test("items keep the numbers that they have in the text", () => {
  render("3. three\n2. two\n1. one\n\ntext\n\n1. a\n1. b\n1. c\n\ntext\n\n4. d\n5. e\n7. f\n");
  expect([...root.querySelectorAll("ol")].map(({ start }) => start)).toEqual([3, 1, 4]);
  expect([...root.querySelectorAll("li")].map((item) => item.getAttribute("value"))).toEqual([
    null,
    "2",
    "1",
    null,
    null,
    null,
    null,
    null,
    "7",
  ]);
});

test("a table's columns stand as it says", () => {
  render("|a|b|c|\n|:-|-:|:-:|\n|1|2|3|\n");
  expect([...root.querySelectorAll("th, td")].map(({ className }) => className)).toEqual([
    "left",
    "right",
    "center",
    "left",
    "right",
    "center",
  ]);
});

test("code is coloured while it grows, line by line", async () => {
  const { show } = createWith(root, { maths: null });
  const keywords = () => [...root.querySelectorAll(".hljs-keyword")].map(({ textContent }) => textContent);
  const code = `${"def f():\n    return 1\n\n".repeat(900)}class C:\n    pass`;
  let text = "```python\ndef f():\n    ret";
  show(text, false);
  expect(root.querySelector("figcaption span")?.textContent).toBe("python");
  await expect.poll(keywords, { timeout: 10_000 }).toEqual(["def"]);
  expect(root.querySelector("code")?.textContent).toBe("def f():\n    ret");
  for (let end = text.length; end < code.length; end += 97) {
    text = `\`\`\`python\n${code.slice(0, end)}`;
    show(text, false);
    expect(code.startsWith(String(root.querySelector("code")?.textContent))).toBe(true);
  }
  expect(keywords().length).toBeGreaterThan(1700);
  expect(root.querySelector("code")?.children.length).toBeGreaterThan(2);
  text = `\`\`\`python\n${code}\n\`\`\`\n\nafter\n`;
  while (!show(text, false));
  await expect.poll(() => keywords().slice(-3)).toEqual(["return", "class", "pass"]);
  expect(root.querySelector("code")?.textContent).toBe(code);
});

test("a selection in code stays while the code gets its colours", async () => {
  const { show } = createWith(root, { maths: null });
  show("```js\nlet first = 1;\n", false);
  await expect.poll(() => root.querySelector(".hljs-keyword")?.textContent).toBe("let");
  const node = textsOf(root).find(({ data }) => data.includes("first"));
  getSelection()?.selectAllChildren(/** @type {Node} */ (node));
  const selected = String(getSelection());
  show("```js\nlet first = 1;\nlet second = 2;\nlet third", false);
  await expect.poll(() => root.querySelectorAll(".hljs-keyword").length).toBe(2);
  expect(String(getSelection())).toBe(selected);
});

/** @param {Node} parent @returns {Text[]} */
function textsOf(parent) {
  return [...parent.childNodes].flatMap((node) => (node instanceof Text ? [node] : textsOf(node)));
}

test("code is copied as far as it has come", () => {
  /** @type {() => string} */
  let copied = () => "";
  const copyButton = (/** @type {() => string} */ text) => {
    copied = text;
    return document.createElement("button");
  };
  const { show } = createWith(root, { highlighter: null, maths: null, copyButton });
  const lines = [
    "1. Do:\n\n   ```js\n",
    "   let a;\n",
    "\n",
    "   {\n     let b;\n",
    "   }",
    "\n",
    "   ```\n",
    "2. End\n\n",
  ];
  const seen = [];
  let text = "";
  for (const line of lines) {
    text += line;
    show(text, false);
    seen.push(copied());
  }
  const code = "let a;\n\n{\n  let b;\n}";
  expect(seen).toEqual(["", "let a;", "let a;\n", "let a;\n\n{\n  let b;", code, code, code, code]);
});

test("a long line of code can be wrapped", () => {
  render("```js\nlet a;\n```\n");
  const button = /** @type {HTMLElement} */ (root.querySelector("[aria-pressed]"));
  expect(button.textContent).toBe("Wrap lines");
  button.click();
  expect(root.querySelector("pre")?.classList.contains("wrap")).toBe(true);
  expect(button.getAttribute("aria-pressed")).toBe("true");
  button.click();
  expect(root.querySelector("pre")?.classList.contains("wrap")).toBe(false);
});

test("a list, a quote and a table have the direction of their text", () => {
  render("- שלום\n- עולם\n\n> שלום\n\n| שלום | b |\n|---|---|\n| 1 | 2 |\n\n- left\n\n```\nשלום\n```\n");
  const directions = [...root.querySelectorAll("ul, blockquote, table, pre")].map(
    (element) => getComputedStyle(element).direction,
  );
  expect(directions).toEqual(["rtl", "rtl", "rtl", "ltr", "ltr"]);
});

test("no character is cut in two", () => {
  const text = "a😀b😀";
  expect(pieceOf(text, 0, 2)).toBe("a😀");
  expect(pieceOf(text, 0, 1)).toBe("a");
  expect(pieceOf(text, 3, 100)).toBe("b😀");
});
