/** This near to the end counts as being there. */
const NEAR_PIXELS = 48;

/**
 * Keeps the end in sight for who reads at the end, and leaves everyone else where they are.
 *
 * @param {HTMLElement} toTheEnd a button that is shown to those who are elsewhere
 */
export function createScroll(toTheEnd) {
  const page = document.scrollingElement ?? document.documentElement;
  let atTheEnd = true;
  let lastTop = page.scrollTop;
  const look = () => {
    // Growing text leaves the end behind, too: only who scrolls up wants to be elsewhere.
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
