/**
 * In place of linkify-it, punycode.js and mdurl, which markdown-it imports for what is replaced here: finding addresses without
 * angle brackets (`rules/addresses.js`) and normalizing addresses (`createParser`). They have 6 KB compressed.
 */
export class LinkifyIt {}
export default {};
