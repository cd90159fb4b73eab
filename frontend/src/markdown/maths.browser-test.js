import { describe, expect, test } from "vitest";
import { createMarkdown } from "./index.js";

const MATHML = "http://www.w3.org/1998/Math/MathML";

/** @param {string[]} pieces */
function render(...pieces) {
  const root = document.createElement("div");
  const { show } = createMarkdown(root, { highlighter: null });
  let text = "";
  for (const piece of pieces) {
    text += piece;
    show(text, false);
  }
  while (!show(text, true));
  return root;
}

/** Return the formulas' TeX, once they are MathML. @param {Element} root @param {number} count */
async function texOf(root, count) {
  await expect.poll(() => root.querySelectorAll("math").length).toBe(count);
  return [...root.querySelectorAll("annotation")].map(({ textContent }) => textContent);
}

describe("a formula becomes MathML", () => {
  for (const [name, markdown, tex, display] of /** @type {[string, string, string[], boolean][]} */ ([
    ["in parentheses", "Let \\(a_1 * b_1 * c\\) be.", ["a_1 * b_1 * c"], false],
    ["in dollars", "Let $x$, $f(x)$ and $2n + 1 = y_1$ be.", ["x", "f(x)", "2n + 1 = y_1"], false],
    ["in brackets", "\\[\nx = \\frac{1}{2}\n\\]\n", ["x = \\frac{1}{2}"], true],
    ["in two dollars", "Text:\n$$\nx\n= y\n- z\n$$\nmore", ["x\n= y\n- z"], true],
    ["within a line", "Here $$x^2$$ is.", ["x^2"], true],
    ["in a list", "- item\n\n  \\[\n  x\n  \\]\n- next $y$\n", ["x", "y"], true],
    ["in a quote", "> $$\n> x\n> $$\n", ["x"], true],
    ["at a sentence's end", "$$x$$.\n\nNext", ["x."], true],
    ["in a table", "| a |\n|---|\n| \\(x\\) |\n", ["x"], false],
    ["in bold words", "**with \\(x\\)**", ["x"], false],
  ])) {
    test(name, async () => {
      for (const root of [render(markdown), render(...markdown)]) {
        expect(await texOf(root, tex.length)).toEqual(tex);
        expect(root.querySelector("math")?.getAttribute("display") === "block").toBe(display);
        expect(root.querySelector(".formula > code")).toBeNull();
      }
    });
  }
});

test.for([
  "It costs $5 to $10, $5-$10, or 5$ and 6$.",
  "Set $HOME and $PATH, ${HOME}/bin:$PATH, and $_ or $0.",
  "US$5 and A$6, $100k, $20/month or $30/month.",
  "A price in $, and another in $ as well; cheap ($), dear ($$$).",
  "`$x$` and `\\(x\\)` in code",
  "\\\\(a\\\\) has two strokes",
  "a \\$x\\$ escaped",
])("is no formula: %s", (markdown) => {
  expect(render(markdown).querySelector(".formula")).toBeNull();
  expect(render(...markdown).querySelector(".formula")).toBeNull();
});

test("a formula that is wrong, or too long, stays as it is written", async () => {
  const root = render(`Good: \\(x\\). Wrong: \\(\\frac{\\). Endless: \\(\\def\\a{\\a\\a}\\a\\).`);
  await texOf(root, 1);
  expect([...root.querySelectorAll(".formula > code")].map(({ textContent }) => textContent)).toEqual([
    "\\(\\frac{\\)",
    "\\(\\def\\a{\\a\\a}\\a\\)",
  ]);
});

test("a formula leads nowhere, loads nothing and runs nothing", async () => {
  const root = render(
    [
      "\\href{javascript:alert(1)}{x}",
      "\\url{https://evil.example/}",
      "\\includegraphics{https://evil.example/x.png}",
      "\\class{x}{y}\\id{x}{y}\\style{color:red}{y}\\data{x=y}{z}",
      "\\text{<img src=x onerror=alert(1)>}",
      "\\rule{9999em}{9999em}",
    ]
      .map((tex) => `\\(x ${tex}\\)`)
      .join(" "),
  );
  await expect.poll(() => root.querySelector("math")).not.toBeNull();
  for (const element of root.querySelectorAll(".formula *")) {
    const isSource = element.localName === "code" && element.children.length === 0;
    expect(isSource || element.namespaceURI === MATHML, element.localName).toBe(true);
    for (const { name, value } of element.attributes) {
      expect(name).not.toMatch(/^on|href|src|^id$/);
      expect(value).not.toContain("9999");
    }
  }
});

test("a formula that is being written is shown as it is, without emphasis", () => {
  const root = document.createElement("div");
  const { show } = createMarkdown(root, { highlighter: null, maths: null });
  for (const text of ["So \\(a_1 * b_1 * c", "Text:\n\n$$\na_1 * b_1\n* c * d_1", "And \\[ x *y* z"]) {
    show(text, false);
    expect(root.querySelector("em, ul, li")).toBeNull();
    while (!show(text, true));
    show(`${text} end`, false); // begins anew
  }
});
