/**
 * The conversations that this browser keeps: questions, and answers by their ids; their texts once they are over.
 *
 * @typedef {object} Turn
 * @property {string} id
 * @property {string} question
 * @property {number} askedAt Unix time in milliseconds
 * @property {string | null} answer the answer's id, once known
 * @property {Kept | null} kept how it ended, once it has
 *
 * @typedef {import("../client/state.js").AnswerState} AnswerState
 * @typedef {Pick<AnswerState, "phase" | "text" | "reasoning" | "end" | "failure">} Kept
 *
 * @typedef {object} Conversation
 * @property {string} id
 * @property {Turn[]} turns
 */

const KEY = "folyam.conversations";
/** Half of what the service takes by default. */
const MOST_EARLIER_TURNS = 50;

/** @param {Storage} storage */
export function createConversations(storage) {
  /** @returns {Conversation[]} newest first */
  const list = () => {
    try {
      const kept = JSON.parse(storage.getItem(KEY) ?? "[]");
      return Array.isArray(kept) ? kept : [];
    } catch {
      return []; // of another version, or broken: not worth a page that does not start
    }
  };

  /** @param {Conversation[]} conversations */
  const write = (conversations) => {
    for (let kept = conversations; ; kept = kept.slice(0, -1)) {
      try {
        storage.setItem(KEY, JSON.stringify(kept));
        return;
      } catch (error) {
        if (kept.length === 0) {
          throw error;
        }
        // The storage is full: the oldest goes.
      }
    }
  };

  return {
    list,

    /** @param {string} answer */
    withAnswer: (answer) => list().find(({ turns }) => turns.some((turn) => turn.answer === answer)) ?? null,

    /**
     * Keeps a new conversation, or a new turn of one, as the newest. Other tabs may have added turns of their own.
     *
     * @param {Conversation} conversation
     * @param {Turn} turn
     */
    begin(conversation, turn) {
      const others = list().filter(({ id }) => id !== conversation.id);
      const turns = list().find(({ id }) => id === conversation.id)?.turns ?? [];
      write([{ id: conversation.id, turns: [...turns, turn] }, ...others]);
    },

    /**
     * Keeps what became of a turn, unless its conversation has been erased meanwhile.
     *
     * @param {Turn} turn
     */
    update(turn) {
      const updated = list().map((conversation) => ({
        ...conversation,
        turns: conversation.turns.map((kept) => (kept.id === turn.id ? turn : kept)),
      }));
      write(updated);
    },

    /** @param {string} id */
    forget(id) {
      write(list().filter((kept) => kept.id !== id));
    },
  };
}

/**
 * The turns before this one, for the model.
 *
 * @param {Conversation} conversation
 * @param {Turn} turn
 */
export function historyBefore({ turns }, turn) {
  const earlier = turns.slice(0, turns.indexOf(turn)).slice(-MOST_EARLIER_TURNS);
  return earlier.flatMap(({ question, kept }) =>
    kept?.text
      ? [
          { role: /** @type {const} */ ("user"), content: question },
          { role: /** @type {const} */ ("assistant"), content: kept.text },
        ]
      : [],
  );
}

/**
 * An answer's link. It stands in the fragment, which browsers send to no server: neither the id, which is all it takes to
 * read the answer, nor the question gets into anyone's logs.
 *
 * @param {Turn} turn
 */
export function linkTo({ answer, question }) {
  return `#${answer}/${encodeURIComponent([...question].slice(0, LONGEST_QUESTION_IN_LINK).filter(isWhole).join(""))}`;
}

const LONGEST_QUESTION_IN_LINK = 300;

/** Half a surrogate pair cannot be written in an address. @param {string} character */
function isWhole(character) {
  return !/^[\ud800-\udfff]$/.test(character);
}

/** @param {string} fragment */
export function readLink(fragment) {
  const match = /^#([0-9A-Za-z-]{8,64})(?:\/(.*))?$/.exec(fragment);
  if (!match) {
    return null;
  }
  try {
    return { answer: String(match[1]), question: decodeURIComponent(match[2] ?? "") };
  } catch {
    return { answer: String(match[1]), question: "" };
  }
}

/** An id of 128 random bits. `crypto.randomUUID` is missing outside secure contexts: over HTTP from another machine. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}
