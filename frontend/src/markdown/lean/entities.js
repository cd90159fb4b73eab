import { characterEntities } from "character-entities";

/**
 * In place of the package `entities`: what markdown-it uses of it, with 11 KB compressed instead of 15.
 *
 * @param {string} reference `&name;`
 */
export function decodeHTMLStrict(reference) {
  const name = reference.slice(1, -1);
  return Object.hasOwn(characterEntities, name) ? String(characterEntities[name]) : reference;
}
