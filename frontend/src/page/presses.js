/** Clicks that follow each other closer than this in time and place are taken for one. */
const DOUBLE_CLICK_MS = 500;
const DOUBLE_CLICK_PIXELS = 24;

/**
 * Makes a double click on a button, or a longer row of clicks, one press, and a held key, too. What a press does may bring
 * another button under the pointer: Stop in the place of Send, the next conversation's Erase in the place of the one that
 * is gone.
 */
export function ignoreRepeatedPresses() {
  let pressed = { button: /** @type {Element | null} */ (null), timeStamp: 0, clientX: 0, clientY: 0 };
  document.addEventListener(
    "click",
    (click) => {
      if (click.detail === 0) {
        return; // by the keyboard or a program: it has no place
      }
      const button = buttonOf(click);
      const { timeStamp, clientX, clientY } = click;
      const isSecond =
        pressed.button !== null &&
        timeStamp - pressed.timeStamp < DOUBLE_CLICK_MS &&
        Math.hypot(clientX - pressed.clientX, clientY - pressed.clientY) < DOUBLE_CLICK_PIXELS;
      // Where it is the same button, the browser's own count says whether it was pressed twice on purpose.
      if (isSecond && (button !== pressed.button || click.detail > 1)) {
        pressed.timeStamp = timeStamp; // a third click soon after this one belongs to it, too
        click.preventDefault();
        click.stopPropagation();
        return;
      }
      pressed = { button, timeStamp, clientX, clientY };
    },
    { capture: true },
  );
  document.addEventListener(
    "keydown",
    (key) => {
      if (key.repeat && key.key === "Enter" && buttonOf(key)) {
        key.preventDefault();
      }
    },
    { capture: true },
  );
}

/** @param {Event} event */
function buttonOf({ target }) {
  return target instanceof Element ? target.closest("button") : null;
}

/**
 * Whether a key belongs to the composition of a character, as in Chinese, Japanese and Korean: Enter takes what was
 * composed, and Escape throws it away. Safari ends the composition before it tells of that key, whose code is then 229.
 *
 * @param {KeyboardEvent} key
 */
export function isOfComposition(key) {
  return key.isComposing || key.keyCode === 229;
}
