/**
 * @template {Element} E
 * @param {string} selector
 * @param {{new (): E}} kind
 */
export function find(selector, kind) {
  const element = document.querySelector(selector);
  if (!(element instanceof kind)) {
    throw new Error(`The page has no ${selector}`);
  }
  return element;
}
