import { find } from "./elements.js";

/** The room between the header and a question that was jumped to. */
const ROOM_PIXELS = 12;
/** A question this near to its place counts as being there. */
const NEAR_PIXELS = 8;
const LOOK_MS = 150;

/** The buttons and keys that lead from question to question. */
export function createQuestionJumps() {
  const header = find("header", HTMLElement);
  const previous = find("#previous-question", HTMLButtonElement);
  const following = find("#following-question", HTMLButtonElement);
  let isLooking = false;

  /** The questions nearest to the header's edge, with their distance from their place there. */
  const around = () => {
    const edge = header.getBoundingClientRect().bottom + ROOM_PIXELS;
    const questions = [...document.querySelectorAll(".question")].map((question) => ({
      question,
      distance: question.getBoundingClientRect().top - edge,
    }));
    const { scrollHeight, scrollTop, clientHeight } = document.documentElement;
    const isAtTheEnd = scrollHeight - scrollTop - clientHeight <= NEAR_PIXELS;
    return {
      above: questions.findLast(({ distance }) => distance < -NEAR_PIXELS),
      below: isAtTheEnd ? undefined : questions.find(({ distance }) => distance > NEAR_PIXELS),
    };
  };
  const look = () => {
    isLooking = false;
    const { above, below } = around();
    previous.hidden = !above;
    following.hidden = !below;
  };
  // Not in each scroll event: a growing answer scrolls in every frame.
  const lookSoon = () => {
    if (!isLooking) {
      isLooking = true;
      setTimeout(look, LOOK_MS);
    }
  };
  /** @param {"above" | "below"} side */
  const jump = (side) => {
    const to = around()[side];
    if (to?.question instanceof HTMLElement) {
      to.question.tabIndex = -1;
      to.question.focus({ preventScroll: true });
      scrollBy(0, to.distance);
    }
  };

  previous.addEventListener("click", () => jump("above"));
  following.addEventListener("click", () => jump("below"));
  document.addEventListener("keydown", (key) => {
    if (key.altKey && (key.key === "ArrowUp" || key.key === "ArrowDown")) {
      key.preventDefault();
      jump(key.key === "ArrowUp" ? "above" : "below");
    }
  });
  addEventListener("scroll", lookSoon, { passive: true });
  addEventListener("resize", lookSoon);
}
