/**
 * What a screen reader is told, politely: that an answer comes, is complete, or is in trouble; never its tokens one by
 * one. The answer itself can be read at leisure.
 *
 * @param {string} sentence
 */
export function announce(sentence) {
  const region = document.getElementById("announcer");
  if (region && region.textContent !== sentence) {
    region.textContent = sentence;
  }
}
