/**
 * Answers as models write them, and the text that a reader must see: all of it but the marks. Blanks and line ends count
 * as one.
 *
 * @type {Record<string, [markdown: string, text: string]>}
 */
export const ANSWERS = {
  "names with underscores": [
    "Use max_tokens and user_id together; open src/my_module/file_name.py.\nCall `__init__`, __init__ or " +
      "super().__init__() of _private_name, **__all__** and __FILE__; __Note__ that __two words__ are _bold_.",
    "Use max_tokens and user_id together; open src/my_module/file_name.py. Call __init__, __init__ or " +
      "super().__init__() of _private_name, __all__ and __FILE__; Note that two words are bold.",
  ],
  globs: [
    "Use *.py and *.js files, or src/**/*.ts and **/*.md, with 2 * 3 * 4 workers; **.NET** and *.NET* are none.",
    "Use *.py and *.js files, or src/**/*.ts and **/*.md, with 2 * 3 * 4 workers; .NET and .NET are none.",
  ],
  "shell variables and prices": [
    "Set $HOME and $PATH, or ${HOME}/bin. It costs $5 to $10, and $_ is the last argument of $0.",
    "Set $HOME and $PATH, or ${HOME}/bin. It costs $5 to $10, and $_ is the last argument of $0.",
  ],
  "code in a loose list": [
    "1. **Install it**\n\n   Any version will do:\n\n   ```bash\n   npm install some_package\n   ```\n\n2. Use it:\n\n   ```python\n   def f(x):\n       if x:\n           return __name__\n   ```\n\n   Then go on.\n",
    "Install it Any version will do: bash npm install some_package Use it: python def f(x): if x: return __name__ Then go on.",
  ],
  "nested lists": [
    "- Beds\n  - dig\n\n    Deeply, with a `spade_x`.\n\n    ```sh\n    dig --deep\n    ```\n  - sow\n- Paths\n  1. gravel\n  2) stone\n",
    "Beds dig Deeply, with a spade_x. sh dig --deep sow Paths gravel stone",
  ],
  "a quote in a list": [
    "- item\n  > quoted _words_\n  > and more\n- next\n",
    "item quoted words and more next",
  ],
  "a table": [
    "| Name | Value | Note |\n|:-----|------:|:----:|\n| max_tokens | 1,024 | `a\\|b` |\n| top_p | 0.9 |\n| stop | `x|y` | is | here |\n",
    "Name Value Note max_tokens 1,024 a|b top_p 0.9 stop `x y` | is | here",
  ],
  "Windows' line ends": [
    "# Head\r\n\r\n```js\r\nlet a_b;\r\n```\r\n\r\nafter\r\n- one\r\n- two\r\n",
    "Head js let a_b; after one two",
  ],
  "links with parentheses": [
    'See [Foo](https://en.wikipedia.org/wiki/Foo_(bar)), [a](https://example.com/a "Title") and <https://example.com/c_d_e>.',
    "See Foo, a and https://example.com/c_d_e.",
  ],
  "bare addresses": [
    "See https://example.com/a_b_c. Then (https://example.com/b?q=%C3%A9), too; not main.py or www.example.com.",
    "See https://example.com/a_b_c. Then (https://example.com/b?q=%C3%A9), too; not main.py or www.example.com.",
  ],
  "links that lead nowhere": [
    "Call handlers[name](event), see [main.py](src/main.py), [x](javascript:alert(1)) and ![plot](plot.png).",
    "Call handlers[name](event), see [main.py](src/main.py), [x](javascript:alert(1)) and ![plot](plot.png).",
  ],
  "references and footnotes": [
    "As said[^1], and [there][ref].\n\n[^1]: By many.\n\n[ref]: https://example.com/ref\n[unused]: nowhere\n",
    "As said1, and there. 1 By many. [unused]: nowhere",
  ],
  fences: [
    '~~~python title="my_file.py"\nx = "```"\n~~~\n\n````md\n```js\nlet a;\n```\n````\n\n```\nno language\n',
    'python title="my_file.py" x = "```" md ```js let a; ``` no language',
  ],
  markup: [
    "Write &lt;b&gt; or <b>, a < b && c > d, &copy; and <!-- this -->.",
    "Write <b> or <b>, a < b && c > d, © and <!-- this -->.",
  ],
  headings: ["Title\n=====\n\nPart\n---\n\n### Part 1_2 ###\n\n#hashtag", "Title Part Part 1_2 #hashtag"],
  formulas: [
    "Where \\(a_1 \\cdot b\\), \\[x * y * z\\] and $$\\{a_1\\} * b_1 * c$$ hold.",
    "Where \\(a_1 \\cdot b\\), \\[x * y * z\\] and $$\\{a_1\\} * b_1 * c$$ hold.",
  ],
  "escaped marks": [
    "snake\\_case, 2 \\* 3, \\# no heading, C:\\dir\\new_file",
    "snake_case, 2 * 3, # no heading, C:\\dir\\new_file",
  ],
  "lines of a paragraph": [
    "Roses are red,\nviolets are blue.  \nSugar\\\nis sweet.",
    "Roses are red, violets are blue. Sugar is sweet.",
  ],
  tasks: ["- [x] done_it\n- [ ] **open**\n  - [X] below\n- [a] none", "☑ done_it ☐ open ☑ below [a] none"],
  "stars and strokes": [
    "**bold _both_ bold** ~~gone~~ ~one~ ***all*** snake__case**s**",
    "bold both bold gone one all snake__cases",
  ],
};
