/** Clicks closer to each other than this, in time and place, count as one press. */
const DOUBLE_CLICK_MS = 500;
const DOUBLE_CLICK_PIXELS = 24;

/**
 * Count a double click on a button, a longer row of clicks, or a held key as one press. A press may put another button under
 * the pointer, which a second click would press: Stop in place of Send, or the next conversation's Erase.
 */
export function ignoreRepeatedPresses() {
  let pressed = { button: /** @type {Element | null} */ (null), timeStamp: 0, clientX: 0, clientY: 0 };
  document.addEventListener(
    "click",
    (click) => {
      if (click.detail === 0) {
        return; // from the keyboard or a program, without a position
      }
      const button = buttonOf(click);
      const { timeStamp, clientX, clientY } = click;
      const isSecond =
        pressed.button !== null &&
        timeStamp - pressed.timeStamp < DOUBLE_CLICK_MS &&
        Math.hypot(clientX - pressed.clientX, clientY - pressed.clientY) < DOUBLE_CLICK_PIXELS;
      // On the same button, the browser's click count tells a double click from two presses.
      if (isSecond && (button !== pressed.button || click.detail > 1)) {
        pressed.timeStamp = timeStamp; // a third click soon after this one is part of it
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
 * Return whether a key belongs to the composition of a character (IME), as in Chinese, Japanese and Korean: there Enter
 * accepts the composition and Escape cancels it. Safari ends the composition before this key's event, whose code is 229.
 *
 * @param {KeyboardEvent} key
 */
export function isOfComposition(key) {
  return key.isComposing || key.keyCode === 229;
}
