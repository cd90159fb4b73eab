/** Limit on a line of marks, in characters: the search in it takes quadratic time. */
const LONGEST_MARKS = 100;
/** A line of nothing but marks, which may become anything. */
const MARKS_ONLY = /^[ \t>]*(?:[-=*+_#|~`:>$ \t\\]*|\d{1,9}[.)]?)$/;
/** Limit on the content that is completed, in characters. */
const LONGEST_CONTENT = 5000;
/** A table's head. With a blank behind the first stroke, unlike an absolute value. */
const HEAD = /^([ \t>]*)\| .*[^\s|]/;

/**
 * Return the text to show for one that is still growing: without the marks at its end whose meaning is not known yet, so that
 * what is shown does not change back and forth.
 *
 * @param {string} text
 */
export function withoutMarks(text) {
  const start = text.lastIndexOf("\n") + 1;
  const isMarks = text.length - start < LONGEST_MARKS && MARKS_ONLY.test(text.slice(start));
  return isMarks ? text.slice(0, start) : text;
}

/**
 * Return a text whose last line looks like a table's head with the rule that makes it one, or null.
 *
 * @param {string} text that ends in a paragraph
 */
export function withRule(text) {
  const lines = text.slice(-LONGEST_CONTENT).replace(/\n$/, "").split("\n");
  const line = lines.at(-1) ?? "";
  const [, indent] = HEAD.exec(line) ?? [];
  if (indent === undefined || lines.at(-2)?.includes("|")) {
    return null;
  }
  const cells = line.trim().replace(/^[ \t>]*\||\|$/g, "");
  return `${text.replace(/\n$/, "")}\n${indent}|${"-|".repeat(cells.split(/(?<!\\)\|/).length)}`;
}

const BEGINNING_OF_TASK = /^\[[ xX]?\]?$/;
/** Words in brackets are seldom anything but a link. */
const BEGINNING_OF_LINK = /(^|[\s(])!?\[(\p{L}[^[\]\n]*)\]?$/u;
/** What may be open. A formula's marks are escapes, too. */
const OPENINGS = /(?<formula>\$\$|\\[([])|\\.|(?<code>`+)|(?<mark>\*{1,3}|_{1,3}|~~)/gs;
/** @type {Record<string, string>} */
const FORMULA_ENDS = { $$: "$$", "\\(": "\\)", "\\[": "\\]" };

/**
 * Complete the content of the last block of a text that is still growing: close what is open, and leave out a mark or an
 * address that has just begun.
 *
 * @param {string} content
 */
export function completed(content) {
  if (content.length > LONGEST_CONTENT) {
    return content;
  }
  if (BEGINNING_OF_TASK.test(content)) {
    return "";
  }
  const trimmed = content
    .replace(
      /!?\[([^[\]\n]*)\]\((?:<[^>\n]*|[^()\s]*(?:\([^()\s]*\)[^()\s]*)*(?:\([^()\s]*)?(?:\s+"[^"\n]*"?)?)$/,
      "$1",
    )
    .replace(BEGINNING_OF_LINK, "$1$2")
    .replace(/(?:(?<![*_~`])[*_~]+|!?\[|(?<=\s)!|\\|&#?\w*)$/, "");
  return close(trimmed);
}

/** @param {string} content */
function close(content) {
  /** @type {string[]} */
  const open = [];
  for (let at = 0; at < content.length;) {
    OPENINGS.lastIndex = at;
    const found = OPENINGS.exec(content);
    if (!found?.groups) {
      break;
    }
    const { code, formula, mark } = found.groups;
    at = found.index + found[0].length;
    if (mark) {
      toggle(open, mark, content.charAt(found.index - 1), content.slice(at));
    } else if (code || formula) {
      const end = code ? endOfCode(content, at, code) : content.indexOf(FORMULA_ENDS[found[0]] ?? "", at);
      if (end < 0) {
        const begun = code ? beginCode(content, found.index, code) : escapeFrom(content, found.index);
        return begun + open.reverse().join("");
      }
      at = code ? end : end + 2;
    }
  }
  return content + open.reverse().join("");
}

/** @param {string} content @param {number} at @param {string} fence */
function beginCode(content, at, fence) {
  const text = content.slice(at + fence.length);
  return /[^`\s]/.test(text) ? content.replace(/`+$/, "") + fence : content.slice(0, at);
}

/** A formula that has begun is shown as it is written. @param {string} content @param {number} at */
const escapeFrom = (content, at) =>
  content.slice(0, at) + content.slice(at).replace(/[!-/:-@[-`{-~]/g, "\\$&");

/** @param {string} content @param {number} from @param {string} fence */
function endOfCode(content, from, fence) {
  for (const { 0: run, index } of content.slice(from).matchAll(/`+/g)) {
    if (run === fence) {
      return from + index + run.length;
    }
  }
  return -1;
}

/**
 * @param {string[]} open
 * @param {string} mark
 * @param {string} before the character before it
 * @param {string} behind the content behind it
 */
function toggle(open, mark, before, behind) {
  const isBeginning = mark === "*" || mark === "_" ? /^[\p{L}`]/u : /^[\p{L}\p{N}`"'“([]/u;
  // One word behind two underscores may be a name, such as __init__.
  const isName = mark === "__" && !/\s/.test(behind);
  if (open.at(-1) === mark && !/\s/.test(before)) {
    open.pop();
  } else if (/^$|[\s([{"'“‘—–-]/.test(before) && isBeginning.test(behind) && !isName) {
    open.push(mark);
  }
}
