/**
 * Announce a change of an answer's phase to screen readers, politely. The answer's text is not announced: a reader would
 * hear it token by token.
 *
 * @param {string} sentence
 */
export function announce(sentence) {
  const region = document.getElementById("announcer");
  if (region && region.textContent !== sentence) {
    region.textContent = sentence;
  }
}
