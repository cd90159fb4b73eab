import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import csharp from "highlight.js/lib/languages/csharp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import dockerfile from "highlight.js/lib/languages/dockerfile";
import go from "highlight.js/lib/languages/go";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import kotlin from "highlight.js/lib/languages/kotlin";
import php from "highlight.js/lib/languages/php";
import python from "highlight.js/lib/languages/python";
import ruby from "highlight.js/lib/languages/ruby";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import swift from "highlight.js/lib/languages/swift";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";

/** @import { Coloured } from "./options.js" */

/** Loaded on demand: this module, with its languages, is larger than the rest of the page. */
const lowlight = createLowlight({
  bash,
  c,
  cpp,
  csharp,
  css,
  diff,
  dockerfile,
  go,
  ini,
  java,
  javascript,
  json,
  kotlin,
  php,
  python,
  ruby,
  rust,
  sql,
  swift,
  typescript,
  xml,
  yaml,
});

/**
 * The code as views with classes, or null for a language that is not registered. lowlight returns a tree and not a string of
 * HTML, so there is nothing to inject into.
 *
 * @param {string} code
 * @param {string} language
 */
export function highlight(code, language) {
  return lowlight.registered(language) ? viewsOf(lowlight.highlight(language, code)) : null;
}

/** @typedef {ReturnType<typeof lowlight.highlight>} Tree */

/**
 * lowlight's tree has only texts and spans with classes.
 *
 * @param {Tree | Extract<Tree["children"][number], {type: "element"}>} parent
 * @returns {Coloured[]}
 */
function viewsOf(parent) {
  /** @type {Coloured[]} */
  const views = [];
  for (const node of parent.children) {
    if (node.type === "text") {
      views.push({ text: node.value });
    } else if (node.type === "element") {
      const names = String(node.properties.className).replaceAll(",", " ");
      views.push({ tag: "span", attributes: { class: names }, children: viewsOf(node) });
    }
  }
  return views;
}
