import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import csharp from "highlight.js/lib/languages/csharp";
import css from "highlight.js/lib/languages/css";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import php from "highlight.js/lib/languages/php";
import python from "highlight.js/lib/languages/python";
import ruby from "highlight.js/lib/languages/ruby";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";
import { make } from "./elements.js";

/** Loaded on demand: this module, with its languages, is larger than the rest of the page. */
const lowlight = createLowlight({
  bash,
  c,
  cpp,
  csharp,
  css,
  go,
  java,
  javascript,
  json,
  php,
  python,
  ruby,
  rust,
  sql,
  typescript,
  xml,
  yaml,
});

/**
 * The code as nodes with classes, or null for a language that it does not know. A tree and not a string of HTML: there is
 * nothing to inject into.
 *
 * @param {string} code
 * @param {string} language
 */
export function highlight(code, language) {
  return lowlight.registered(language) ? build(lowlight.highlight(language, code)) : null;
}

/** @typedef {ReturnType<typeof lowlight.highlight>} Tree */

/** @param {Tree | Extract<Tree["children"][number], {type: "element"}>} parent */
function build(parent) {
  const fragment = document.createDocumentFragment();
  for (const node of parent.children) {
    if (node.type === "text") {
      fragment.append(node.value);
    } else if (node.type === "element") {
      fragment.append(
        make("span", { class: String(node.properties.className).replaceAll(",", " ") }, build(node)),
      );
    }
  }
  return fragment;
}
