import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["dist/", "lib/", "types/", "coverage/"] },
  js.configs.recommended,
  {
    languageOptions: { globals: { ...globals.browser } },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "no-restricted-properties": [
        "error",
        ...["innerHTML", "outerHTML", "insertAdjacentHTML"].map((property) => ({
          property,
          message: "What a model wrote becomes nodes, never markup.",
        })),
      ],
      "max-lines-per-function": ["error", { max: 60 }],
      "prefer-const": "error",
      eqeqeq: "error",
    },
  },
  {
    files: ["src/**"],
    ignores: ["**/*test.js"],
    rules: {
      "no-restricted-syntax": [
        "error",
        {
          selector: "MemberExpression[property.name='randomUUID']",
          message: "It is missing outside secure contexts: use newId.",
        },
      ],
      "no-restricted-globals": [
        "error",
        ...["localStorage", "sessionStorage"].map((name) => ({
          name,
          message: "It may be forbidden or full: use src/page/storage.js.",
        })),
      ],
    },
  },
  ...[
    ["client", ["**/markdown/**", "**/page/**", "**/react/**", "**/element/**"]],
    ["markdown", ["**/client/**", "**/page/**", "**/react/**", "**/element/**"]],
    ["react", ["**/markdown/**", "**/page/**", "**/element/**"]],
    ["element", ["**/page/**", "**/react/**"]],
  ].map(([part, group]) => ({
    files: [`src/${part}/**`],
    rules: {
      "no-restricted-imports": ["error", { patterns: [{ group, message: "This part stands by itself." }] }],
    },
  })),
  // A describe block is a function, too, as long as all its tests together.
  { files: ["**/*test.js"], rules: { "max-lines-per-function": "off" } },
  { files: ["src/page/storage.js"], rules: { "no-restricted-globals": "off" } },
  {
    files: ["*.config.js", "build.js", "licenses.js", "test/**"],
    languageOptions: { globals: { ...globals.node } },
  },
];
