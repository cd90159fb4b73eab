import { conversationIn, entriesIn, isEntry, isReadable, turnIn } from "./stored-format.js";

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
 * @typedef {Pick<AnswerState, "phase" | "text" | "reasoning" | "toolCalls" | "end" | "failure">} Kept
 *
 * @typedef {object} Conversation
 * @property {string} id
 * @property {Turn[]} turns
 * @property {string} [name] the reader's name for it
 *
 * @typedef {object} Change
 * @property {Turn} turn
 * @property {string | null} newIn the conversation that a new turn belongs to; null where it only replaces itself
 *
 * @typedef {import("./storage.js").StorageTrouble} StorageTrouble
 *
 * @typedef {object} Storage
 * @property {(key: string) => string | null} readStored
 * @property {(key: string, value: string) => StorageTrouble | null} store
 */

const KEY = "folyam.conversations";

/**
 * Store conversations. Changes that do not fit into the storage are kept in memory while the page is open; nothing stored is
 * deleted to make room.
 *
 * @param {Storage} storage
 * @param {(trouble: StorageTrouble | null) => void} onWritten called after each write, with why something is not stored
 */
export function createConversations(storage, onWritten) {
  const entries = createEntries(storage, onWritten);

  /** @returns {Conversation[]} newest first */
  const list = () =>
    entries
      .all()
      .map(conversationIn)
      .filter((conversation) => conversation !== null);

  return {
    list,

    /** @param {string} answer */
    withAnswer: (answer) => list().find(({ turns }) => turns.some((turn) => turn.answer === answer)) ?? null,

    /**
     * Add a turn, and its conversation if it is new, as the newest. Turns that other tabs added are kept.
     *
     * @param {Conversation} conversation
     * @param {Turn} turn
     */
    begin: (conversation, turn) => entries.change({ turn, newIn: conversation.id }),

    /**
     * Store a turn's new state, unless its conversation has been erased.
     *
     * @param {Turn} turn
     */
    update: (turn) => entries.change({ turn, newIn: entries.unstored.get(turn.id)?.newIn ?? null }),

    /** @param {string} id @param {string} name */
    rename: (id, name) =>
      entries.filter(
        () => true,
        (entry) => (isEntry(entry) && entry.id === id ? { ...entry, name } : entry),
      ),

    /** @param {string} id */
    forget(id) {
      for (const { turn, newIn } of entries.unstored.values()) {
        if (newIn === id) {
          entries.unstored.delete(turn.id);
        }
      }
      entries.filter((entry) => !isEntry(entry) || entry.id !== id);
    },

    /** Return whether the storage has entries that this page cannot read. They are kept as they are. */
    hasUnreadable: () => !entries.stored().every(isReadable),

    forgetUnreadable: () => entries.filter((entry) => conversationIn(entry) !== null),
  };
}

/**
 * The stored entries, and the changes to them that are not stored yet.
 *
 * @param {Storage} storage
 * @param {(trouble: StorageTrouble | null) => void} onWritten
 */
function createEntries({ readStored, store }, onWritten) {
  /** Turns that are not stored as they are now, by their ids, oldest first. @type {Map<string, Change>} */
  const unstored = new Map();

  const stored = () => entriesIn(readStored(KEY));

  /**
   * Write the entries with all unstored changes; if that does not fit, with the latest change alone.
   *
   * @param {unknown[]} written
   * @param {Change[]} latest
   */
  const write = (written, latest) => {
    const trouble = store(KEY, JSON.stringify([...unstored.values()].reduce(withChange, written)));
    if (trouble === null) {
      unstored.clear();
    } else if (store(KEY, JSON.stringify(latest.reduce(withChange, written))) === null) {
      latest.forEach(({ turn }) => unstored.delete(turn.id));
    }
    onWritten(trouble);
  };

  return {
    stored,
    unstored,
    all: () => [...unstored.values()].reduce(withChange, stored()),
    /** @param {Change} change */
    change(change) {
      unstored.delete(change.turn.id); // moves a turn that has an unstored change to the end
      unstored.set(change.turn.id, change);
      write(stored(), [change]);
    },
    /** @param {(entry: unknown) => boolean} isKept @param {(entry: unknown) => unknown} [changed] */
    filter: (isKept, changed = (entry) => entry) => write(stored().filter(isKept).map(changed), []),
  };
}

/**
 * @param {unknown[]} entries
 * @param {Change} change
 * @returns {unknown[]}
 */
function withChange(entries, { turn, newIn }) {
  if (newIn === null) {
    return entries.map((entry) =>
      isEntry(entry) ? { ...entry, turns: replaced(entry.turns, turn) } : entry,
    );
  }
  const own = entries.filter(isEntry).find(({ id }) => id === newIn);
  const others = entries.filter((entry) => entry !== own);
  return [{ ...own, id: newIn, turns: [...(own?.turns ?? []), turn] }, ...others];
}

/**
 * @param {unknown[]} turns
 * @param {Turn} turn
 */
function replaced(turns, turn) {
  return turns.map((stored) => (turnIn(stored)?.id === turn.id ? turn : stored));
}

/**
 * Return the turns before this one as the service's `history`.
 *
 * @param {Conversation} conversation
 * @param {Turn} turn
 */
export function historyBefore({ turns }, turn) {
  return turns.slice(0, turns.indexOf(turn)).flatMap(({ question, kept }) =>
    kept?.text
      ? [
          { role: /** @type {const} */ ("user"), content: question },
          { role: /** @type {const} */ ("assistant"), content: kept.text },
        ]
      : [],
  );
}

/**
 * Return an answer's link. The id is enough to read the answer, so id and question are in the fragment, which browsers do
 * not send to servers and which no log gets.
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

/** Return an id of 128 random bits. `crypto.randomUUID` is missing outside secure contexts, such as HTTP from another machine. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}
