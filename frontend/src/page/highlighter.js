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
 * The code as nodes with classes, or null for a language that is not registered. lowlight returns a tree and not a string of
 * HTML, so there is nothing to inject into.
 *
 * @param {string} code
 * @param {string} language
 */
export function highlight(code, language) {
  return lowlight.registered(language) ? build(lowlight.highlight(language, code)) : null;
}

/** @typedef {ReturnType<typeof lowlight.highlight>} Tree */

/**
 * Build the nodes of lowlight's tree, which has only texts and spans with classes.
 *
 * `hast-util-to-dom` would do this, but costs 6.6 KB compressed here (30.2 becomes 36.9) and a chunk more that the page loads
 * at its start. That is one more idle connection for the browser to reuse: after a stall of the network, following needs one
 * more timeout to find a live one, and the service stopped the answer as unwatched before.
 *
 * @param {Tree | Extract<Tree["children"][number], {type: "element"}>} parent
 */
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
