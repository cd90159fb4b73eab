import temml from "temml";

/** Limit on a formula's length: it blocks the page while it is laid out. */
const LONGEST = 2000;
const OPTIONS = {
  throwOnError: true,
  annotate: true,
  // Bounds and no addresses: a model's macros must neither run away nor lead anywhere.
  trust: false,
  maxExpand: 200,
  maxSize: /** @type {[number, number]} */ ([10, 10]),
};

/**
 * A formula's MathML, which needs neither fonts nor styles of its own.
 *
 * @param {string} tex
 * @param {boolean} display
 * @returns {Element}
 * @throws {Error} if the formula is wrong
 */
export function mathOf(tex, display) {
  if (tex.length > LONGEST) {
    throw new Error("The formula is too long.");
  }
  const place = document.createElement("span");
  temml.render(tex, place, { ...OPTIONS, displayMode: display });
  const math = place.firstElementChild;
  if (!math) {
    throw new Error("The formula is empty.");
  }
  return math;
}
