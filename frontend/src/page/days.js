import { locale, say } from "./words.js";

/** @param {Date} day */
const midnight = (day) => new Date(day.getFullYear(), day.getMonth(), day.getDate());

/**
 * Return a day's name in the reader's language: today, yesterday, or its date.
 *
 * @param {number} at Unix time in milliseconds
 * @param {Date} [now]
 */
export function dayOf(at, now = new Date()) {
  const day = midnight(new Date(at));
  const today = midnight(now);
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  if (day.getTime() === today.getTime()) {
    return say("today");
  }
  return day.getTime() === yesterday.getTime()
    ? say("yesterday")
    : day.toLocaleDateString(locale(), { dateStyle: "long" });
}
