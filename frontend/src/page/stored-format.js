/** @import { EndEvent } from "../client/events.js" */
/** @import { Failure, ToolCall } from "../client/state.js" */
/** @import { Conversation, Kept, Turn } from "./conversations.js" */

/**
 * The storage may hold JSON of any shape: written by another page of this origin, another version of this page, or a person.
 * An entry that is not a conversation stays `unknown`, so that it can be written back unchanged.
 *
 * @typedef {{id: string, turns: unknown[]}} Entry
 */

/**
 * @param {string | null} text
 * @returns {unknown[]}
 */
export function entriesIn(text) {
  let value;
  try {
    value = JSON.parse(text ?? "[]");
  } catch {
    value = text;
  }
  return Array.isArray(value) ? value : [value];
}

/**
 * @param {unknown} value
 * @returns {value is Entry}
 */
export function isEntry(value) {
  return isObject(value) && isText(value.id) && Array.isArray(value.turns);
}

/**
 * Return an entry's conversation with the turns that can be read, or null if there are none.
 *
 * @param {unknown} entry
 * @returns {Conversation | null}
 */
export function conversationIn(entry) {
  if (!isEntry(entry)) {
    return null;
  }
  const turns = entry.turns.map(turnIn).filter((turn) => turn !== null);
  const { id, name } = /** @type {Entry & {name?: unknown}} */ (entry);
  return turns.length > 0 ? { id, turns, ...(isText(name) && { name }) } : null;
}

/**
 * Return whether the page can show all turns of an entry.
 *
 * @param {unknown} entry
 */
export function isReadable(entry) {
  return isEntry(entry) && entry.turns.length > 0 && entry.turns.every((turn) => turnIn(turn) !== null);
}

/**
 * Return the turn in a value, or null. Id and question are required; the rest is optional.
 *
 * @param {unknown} value
 * @returns {Turn | null}
 */
export function turnIn(value) {
  if (!isObject(value)) {
    return null;
  }
  const { id, question, askedAt, answer = null, kept = null } = value;
  if (!isText(id) || !isText(question) || !(answer === null || isText(answer))) {
    return null;
  }
  const keptAsIs = kept === null ? null : keptIn(kept);
  if (kept !== null && keptAsIs === null) {
    return null;
  }
  return { id, question, askedAt: isNumber(askedAt) ? askedAt : 0, answer, kept: keptAsIs };
}

/**
 * @param {unknown} value
 * @returns {Kept | null}
 */
function keptIn(value) {
  if (!isObject(value)) {
    return null;
  }
  const { phase, text, reasoning = "", toolCalls = [], end, failure } = value;
  if (
    (phase !== "done" && phase !== "stopped" && phase !== "failed") ||
    !isText(text) ||
    !isText(reasoning) ||
    !areToolCalls(toolCalls)
  ) {
    return null;
  }
  return {
    phase,
    text,
    reasoning,
    toolCalls,
    end: isEnd(end) ? end : null,
    failure: isFailure(failure) ? failure : null,
  };
}

/**
 * @param {unknown} value
 * @returns {value is ToolCall[]}
 */
function areToolCalls(value) {
  return (
    Array.isArray(value) &&
    value.every(
      (call) => isObject(call) && isNumber(call.index) && isText(call.name) && isText(call.arguments),
    )
  );
}

/**
 * @param {unknown} value
 * @returns {value is EndEvent}
 */
function isEnd(value) {
  return isObject(value) && isText(value.type) && areNumbers(value.usage) && areNumbers(value.timing);
}

/**
 * @param {unknown} value
 * @returns {value is Failure}
 */
function isFailure(value) {
  return isObject(value) && isText(value.code) && isText(value.message) && isText(value.of);
}

/** An object of numbers, or none. @param {unknown} value */
function areNumbers(value) {
  const none = value === null || value === undefined;
  return none || (isObject(value) && Object.values(value).every((each) => each === null || isNumber(each)));
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
function isObject(value) {
  return typeof value === "object" && value !== null;
}

/**
 * @param {unknown} value
 * @returns {value is string}
 */
function isText(value) {
  return typeof value === "string";
}

/**
 * @param {unknown} value
 * @returns {value is number}
 */
function isNumber(value) {
  return Number.isFinite(value);
}
