import { make } from "./elements.js";

/** @import { Context } from "./context.js" */
/** @import { Formula } from "./rules/formulas.js" */

/**
 * A formula as MathML, and as it is written until the module for it has loaded: on demand, because it has 58 KB compressed.
 *
 * @param {Context} context
 * @param {Formula} formula
 */
export function formulaView(context, { source, tex, display }) {
  const written = make("code", { dir: "ltr" }, source);
  if (tex !== "" && context.options.maths) {
    context.options
      .maths()
      .then(({ mathOf }) => written.replaceWith(mathOf(tex, display)))
      .catch(() => {
        // The network may be gone, or the formula wrong. It stays readable as written.
      });
  }
  return make("span", { class: display ? "formula display" : "formula" }, written);
}
