import MarkdownIt from "markdown-it";
import { afterEach, describe, expect, test, vi } from "vitest";
import { ANSWERS } from "../../test/answers.js";
import { createMarkdown } from "./index.js";

const OPTIONS = { highlighter: null, maths: null };
/** Characters a token, as models have them. */
const TOKEN = 4;

afterEach(() => vi.restoreAllMocks());

/** @param {string} text @param {number} length */
function* piecesOf(text, length) {
  for (let end = length; end < text.length + length; end += length) {
    yield text.slice(0, end);
  }
}

/** The characters that are parsed in all while a text comes token by token. @param {string} text */
function charactersParsed(text) {
  let characters = 0;
  const parser = new MarkdownIt();
  for (const part of [parser.block, parser.inline]) {
    const prototype = Object.getPrototypeOf(part);
    const parse = prototype.parse;
    vi.spyOn(prototype, "parse").mockImplementation(function (/** @type {unknown[]} */ ...given) {
      characters += String(given[0]).length;
      return parse.apply(this, given);
    });
  }
  const { show } = createMarkdown(document.createElement("div"), OPTIONS);
  // Without the wait of slow blocks for their frame, which would parse less.
  vi.spyOn(performance, "now").mockReturnValue(0);
  for (const piece of piecesOf(text, TOKEN)) {
    show(piece, false);
  }
  show(text, true);
  vi.restoreAllMocks();
  return characters;
}

const SECTION =
  "## Part\n\nSome words about `code_x`, **bold** words and [a link](https://example.com/).\n\n" +
  "| a | b |\n|---|--:|\n| `x` | 1 |\n| words | 2 |\n\n1. First\n\n   ```python\n   def f(x):\n       return x\n   ```\n\n2. Second\n   - nested\n   - more\n\n";
const CODE = "    const some_name = await another(name);\n";
/** @type {Record<string, [begin: string, repeated: string]>} */
const LONG = {
  "sections with tables and code": ["", SECTION],
  "one fence": ["```js\n", CODE],
  "one fence in a nested list": ["- a\n  1. b\n\n     ```js\n", `     ${CODE}`],
  "one table": ["| a | b |\n|---|---|\n", "| `code_x` in a cell | **bold** words |\n"],
  "one table in a quote": ["> | a | b |\n> |---|---|\n", "> | `code_x` in a cell | **bold** words |\n"],
  "one list": ["", "1. an **item** with `code_x` and words\n"],
  "one list with paragraphs": ["", "- an **item**\n\n  with `code_x`\n\n"],
  "one nested list": ["- item\n", "  - an **item** with `code_x` and words\n"],
  "one quote of paragraphs": ["", "> words and **bold** words\n>\n"],
  "one footnote of paragraphs": ["[^1]: note\n\n", "    words and **bold** words\n\n"],
};

describe("what is parsed for a token does not depend on how much came before", () => {
  for (const [name, [begin, repeated]] of Object.entries(LONG)) {
    test(name, () => {
      /** @param {number} tokens */
      const textOf = (tokens) => begin + repeated.repeat(Math.ceil((tokens * TOKEN) / repeated.length));
      const few = charactersParsed(textOf(1000));
      const many = charactersParsed(textOf(8000));
      // Eight times as many tokens; the first ones have less behind them.
      expect(many / few).toBeLessThan(8.5);
    });
  }
});

/** @param {Element} root */
const blocksOf = (root) => [...root.children].flatMap((part) => [...part.children]);

describe("a block that another one follows", () => {
  for (const [name, [markdown]] of Object.entries(ANSWERS)) {
    test(`does not change any more: ${name}`, () => {
      const root = document.createElement("div");
      const { show } = createMarkdown(root, OPTIONS);
      // References may come late: these are the ones that may change what is finished.
      const text = markdown.replaceAll("[^1]", "[1]").replaceAll("[ref]: ", "[ref] ");
      /** @type {[Element, string][]} */
      let finished = [];
      for (const piece of piecesOf(`${text}\n\nend of it\n\n`, 1)) {
        show(piece, false);
        const blocks = blocksOf(root);
        for (const [index, [element, markup]] of finished.entries()) {
          expect(blocks[index]).toBe(element);
          expect(markupOf(element), JSON.stringify(piece)).toBe(markup);
        }
        finished = blocks.slice(0, -1).map((element) => [element, markupOf(element)]);
      }
      expect(finished.length).toBeGreaterThan(0);
    });
  }
});

/** @param {Element} element */
const markupOf = (element) => new XMLSerializer().serializeToString(element);

/** What a reader sees, without the page's own words. @param {Element} root */
function textOf(root) {
  const copy = /** @type {Element} */ (root.cloneNode(true));
  copy.querySelectorAll("button, .kind, [hidden]").forEach((own) => own.remove());
  return String(copy.textContent);
}

describe("what is shown does not blink", () => {
  for (const [name, text] of Object.entries({
    "bold words": "Some **bold words** and **more** of them, *slanted* and ***both***.\n",
    code: "Call `f(x)` and ``a`b``, then `g`.\n",
    "a link": "See [the page](https://example.com/a_b) and ![a picture](https://example.com/p.png), too.\n",
    "a list behind a paragraph": "Items:\n- one\n- two\n  - three\n\n1. four\n2. five\n",
    "a table":
      "Rivers:\n\n| River | Length |\n|:------|-------:|\n| Tisza | 966 |\n| Duna | 2,850 |\n\nend\n",
    "a fence": "Code:\n\n```js\nlet a = 1;\n```\n\nend\n",
    headings: "# One\n\n## Two\n\ntext\n\n---\n\nmore\n",
    formulas: "Where \\(a_1 * b_2\\) and $$x_1 * y_1$$ hold:\n\n\\[\na_1 * b\n\\]\n\nend\n",
    tasks: "- [x] done\n- [ ] open\n",
    "a quote": "> said **so**\n> and so\n\nend\n",
    "names with underscores and stars": "Use snake_case, 2 * 3 and *.py files.\n",
    strikethrough: "It is ~~gone~~ now.\n",
  })) {
    test(name, () => {
      const root = document.createElement("div");
      const { show } = createMarkdown(root, OPTIONS);
      let shown = "";
      for (const piece of piecesOf(text, 1)) {
        show(piece, false);
        const now = textOf(root);
        expect(now.startsWith(shown), `${JSON.stringify(shown)}, then ${JSON.stringify(now)}`).toBe(true);
        shown = now;
      }
    });
  }
});
