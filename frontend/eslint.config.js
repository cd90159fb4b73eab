import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["dist/", "types/", "coverage/"] },
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
    },
  },
  { files: ["*.config.js", "test/**"], languageOptions: { globals: { ...globals.node } } },
];
