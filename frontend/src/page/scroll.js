/** Distance from the end that counts as being at the end. */
const NEAR_PIXELS = 48;

/**
 * Follow a growing page for readers at its end, and do not scroll for others.
 *
 * @param {HTMLElement} toTheEnd a button shown to readers who are not at the end
 */
export function createScroll(toTheEnd) {
  const page = document.scrollingElement ?? document.documentElement;
  let atTheEnd = true;
  let lastTop = page.scrollTop;
  const look = () => {
    // Growing text also moves the end away. Only scrolling up means that the reader has left it.
    if (page.scrollHeight - page.scrollTop - page.clientHeight <= NEAR_PIXELS) {
      atTheEnd = true;
    } else if (page.scrollTop < lastTop) {
      atTheEnd = false;
    }
    lastTop = page.scrollTop;
    toTheEnd.hidden = atTheEnd;
  };
  globalThis.addEventListener("scroll", look, { passive: true });
  globalThis.addEventListener("resize", () => follow());
  const follow = () => {
    if (atTheEnd) {
      page.scrollTop = page.scrollHeight;
    } else {
      toTheEnd.hidden = false;
    }
  };
  const goToTheEnd = () => {
    atTheEnd = true;
    follow();
    toTheEnd.hidden = true;
  };
  toTheEnd.addEventListener("click", goToTheEnd);
  return { follow, goToTheEnd };
}
