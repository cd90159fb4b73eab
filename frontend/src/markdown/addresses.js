/** Return the absolute address that a link of an answer may lead to, or null. @param {string} address */
export function webAddress(address) {
  // No base: relative addresses are not resolved against the page.
  const url = URL.canParse(address) ? new URL(address) : null;
  return url && (url.protocol === "https:" || url.protocol === "http:") ? url.href : null;
}
