/**
 * The library as a Folyam serves it, at /client.js: by default, its service is the one that it comes from.
 */
import { openAnswer as open } from "./answer.js";

/** @import { Answer, AnswerOptions, Question, Resumption } from "./answer.js" */

export { FolyamError } from "./errors.js";
export { PATIENCE } from "./patience.js";

/** Not in one expression with `new URL`, which Vite takes for the address of a file to put into the build. */
const HERE = import.meta.url;

/**
 * See `openAnswer` in docs/client.md.
 *
 * @param {Question | Resumption} request
 * @param {AnswerOptions} [options]
 * @returns {Answer}
 */
export function openAnswer(request, options = {}) {
  return open(request, { url: new URL(".", HERE), ...options });
}
