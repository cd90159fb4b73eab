/** @import { StateInline } from "markdown-it" */
/** @import { Parser } from "../commonmark.js" */

/** Ends an address: blanks, `<`, and the full-width marks behind which Chinese and Japanese texts go on without a blank. */
const END = "\\s<\\u3000-\\u303f\\uff00-\\uff0f\\uff1a-\\uff20\\uff3b-\\uff40\\uff5b-\\uff65\\u201c\\u201d";
/** The lengths are bounded because the search restarts at each scheme. */
const ADDRESS = new RegExp(`(?:https?://|www\\.)([^${END}/?#]{1,300})[^${END}]{0,4000}`, "iy");
const DOMAIN = /^[\w\-\u0080-\uffff]+(?:\.[\w\-\u0080-\uffff]+)*$/;
const WWW = /(?<![^\s*_~(])www\./gi;

/**
 * GFM's addresses without angle brackets. E-mail addresses stay text: a press on one would open another program.
 *
 * @param {Parser} parser
 */
export function addAddressRules({ inline }) {
  const text = /** @type {(state: StateInline, silent: boolean) => boolean} */ (inline.ruler.getRules("")[0]);
  inline.ruler.before("text", "www", (state, silent) => isAtWww(state) && address(state, silent, 0));
  // What was found last is kept: a text of "www." would take quadratic time if it were searched anew from each of them.
  let plain = { src: "", start: 0, end: 0 };
  let www = { src: "", start: 0, at: 0 };
  // markdown-it's rule for plain text, but it stops before "www."
  inline.ruler.at("text", (state, silent) => {
    const { src, pos: start } = state;
    if (src !== plain.src || start < plain.start || start >= plain.end) {
      if (!text(state, true)) {
        return false;
      }
      plain = { src, start, end: state.pos };
    }
    if (src !== www.src || start < www.start || start > www.at) {
      WWW.lastIndex = start;
      www = { src, start, at: WWW.exec(src)?.index ?? Infinity };
    }
    state.pos = Math.min(plain.end, state.posMax, www.at);
    if (!silent) {
      state.pending += state.src.slice(start, state.pos);
    }
    return state.pos > start;
  });
  inline.ruler.at("linkify", (state, silent) => {
    const scheme = /(?<![a-z0-9])https?$/i.exec(state.pending);
    return (
      scheme !== null && state.src.startsWith("://", state.pos) && address(state, silent, scheme[0].length)
    );
  });
}

/** @param {Pick<StateInline, "src" | "pos">} state */
function isAtWww({ src, pos }) {
  return /^www\.$/i.test(src.slice(pos, pos + 4)) && (pos === 0 || /[\s*_~(]/.test(src.charAt(pos - 1)));
}

/**
 * @param {StateInline} state
 * @param {boolean} silent
 * @param {number} taken characters of the address that are taken as text already
 */
function address(state, silent, taken) {
  ADDRESS.lastIndex = state.pos - taken;
  const found = state.linkLevel > 0 ? null : ADDRESS.exec(state.src.slice(0, state.posMax));
  if (!found || !isDomain(withoutTail(found[1] ?? ""), taken === 0)) {
    return false;
  }
  const url = withoutTail(found[0]);
  const href = state.md.normalizeLink(taken === 0 ? `http://${url}` : url);
  if (url.length <= taken + 3 || !state.md.validateLink(href)) {
    return false;
  }
  if (!silent) {
    state.pending = state.pending.slice(0, state.pending.length - taken);
    state.push("link_open", "a", 1).attrs = [["href", href]];
    state.push("text", "", 0).content = url;
    state.push("link_close", "a", -1);
  }
  state.pos += url.length - taken;
  return true;
}

/**
 * The last two parts of a domain have no underscore.
 *
 * @param {string} domain perhaps with a name and a port
 * @param {boolean} isWww the part "www" is not in it
 */
function isDomain(domain, isWww) {
  const host = domain.replace(/^.*@/, "").replace(/:\d*$/, "");
  return DOMAIN.test(host) && !/_[^.]*(?:\.[^.]*)?$/.test(isWww ? `www.${host}` : host);
}

/** Marks at the end belong to the sentence, and a parenthesis if it closes none of the address. @param {string} url */
function withoutTail(url) {
  let end = url.length;
  let excess = url.split(")").length - url.split("(").length;
  for (;;) {
    const [tail = ""] = /[?!.,:*_~'"]$|&[a-z0-9]+;$/i.exec(url.slice(Math.max(0, end - 40), end)) ?? [];
    if (tail !== "") {
      end -= tail.length;
    } else if (excess > 0 && url.charAt(end - 1) === ")") {
      end -= 1;
      excess -= 1;
    } else {
      return url.slice(0, end);
    }
  }
}
