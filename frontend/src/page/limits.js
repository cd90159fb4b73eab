/**
 * What the service takes, as `GET /limits` tells it.
 *
 * @typedef {object} Limits
 * @property {string[]} models the models that a question may name; the first is the usual one
 * @property {number} queryCharacters
 * @property {number} historyTurns
 * @property {number} bodyBytes
 */

/** Until the service has told its limits, and if it does not: its own defaults. @type {Limits} */
export const USUAL = { models: [], queryCharacters: 32_000, historyTurns: 200, bodyBytes: 1 << 20 };

/** The body's bytes besides question and history: names, quotes, the model. */
const BYTES_BESIDES = 1000;

/**
 * Ask the service for its limits.
 *
 * @param {typeof fetch} [fetcher]
 * @returns {Promise<Limits>} the usual ones if it does not tell
 */
export async function readLimits(fetcher = fetch) {
  try {
    const response = await fetcher("limits");
    const { models, query_characters, history_turns, body_bytes } = await response.json();
    const told = {
      models: Array.isArray(models) ? models.filter((each) => typeof each === "string") : USUAL.models,
      queryCharacters: query_characters,
      historyTurns: history_turns,
      bodyBytes: body_bytes,
    };
    const isWhole = [query_characters, history_turns, body_bytes].every(Number.isSafeInteger);
    return response.ok && isWhole ? told : USUAL;
  } catch {
    return USUAL;
  }
}

/** Count characters as the service does: a pair of surrogates is one. @param {string} text */
export function charactersIn(text) {
  return [...text].length;
}

/**
 * Return the last turns of a history that the service takes beside a question.
 *
 * @template {{content: string}} T
 * @param {T[]} history pairs of question and answer, oldest first
 * @param {string} question
 * @param {Limits} limits
 * @returns {T[]}
 */
export function fitting(history, question, { historyTurns, bodyBytes }) {
  let left = bodyBytes - BYTES_BESIDES - bytesOf(question);
  let first = history.length;
  while (first >= 2 && history.length - first + 2 <= historyTurns) {
    left -= bytesOf(history.slice(first - 2, first));
    if (left < 0) {
      break;
    }
    first -= 2;
  }
  return history.slice(first);
}

const encoder = new TextEncoder();

/** @param {unknown} value */
function bytesOf(value) {
  return encoder.encode(JSON.stringify(value)).length;
}
