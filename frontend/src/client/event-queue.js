import { appendMerged } from "./merging.js";

/** @import { AnswerEvent } from "./events.js" */

/** The queues of an answer's loops. A loop that starts late gets the events so far first. */
export function createQueues() {
  /** @type {Set<ReturnType<typeof createQueue>>} */
  const queues = new Set();
  let closed = false;
  /** @type {unknown} */
  let trouble = null;
  return {
    /**
     * @param {readonly AnswerEvent[]} events the events so far
     * @returns {AsyncIterator<AnswerEvent>}
     */
    open(events) {
      const queue = createQueue(() => queues.delete(queue));
      events.forEach(queue.push);
      if (closed) {
        queue.close(trouble);
      }
      queues.add(queue);
      return queue.iterator;
    },
    /** @param {AnswerEvent} event */
    push(event) {
      for (const queue of queues) {
        queue.push(event);
      }
    },
    /** @param {unknown} reason thrown from the loops after the last event, or null */
    close(reason) {
      closed = true;
      trouble = reason;
      for (const queue of queues) {
        queue.close(reason);
      }
    },
  };
}

/**
 * Queue events for one loop. Neighbouring deltas of one kind that wait are merged under the last one's seq, so that the
 * queue never holds more than the answer itself.
 *
 * @param {() => void} onReturn
 */
export function createQueue(onReturn) {
  /** @type {AnswerEvent[]} */
  const waiting = [];
  let closed = false;
  /** @type {unknown} */
  let trouble = null;
  /** @type {(() => void) | null} */
  let wake = null;
  const settle = () => {
    wake?.();
    wake = null;
  };
  return {
    /** @param {AnswerEvent} event */
    push(event) {
      appendMerged(waiting, event);
      settle();
    },
    /** @param {unknown} reason what to throw after the last event, or null */
    close(reason) {
      closed = true;
      trouble = reason;
      settle();
    },
    /** @type {AsyncIterator<AnswerEvent>} */
    iterator: {
      async next() {
        while (waiting.length === 0 && !closed) {
          await new Promise((resolve) => (wake = () => resolve(undefined)));
        }
        const event = waiting.shift();
        if (event) {
          return { done: false, value: event };
        }
        onReturn();
        if (trouble !== null) {
          const error = trouble;
          trouble = null;
          throw error;
        }
        return { done: true, value: undefined };
      },
      async return() {
        closed = true;
        waiting.length = 0;
        onReturn();
        return { done: true, value: undefined };
      },
    },
  };
}
