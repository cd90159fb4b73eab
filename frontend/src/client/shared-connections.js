import { holdLock } from "./locks.js";

/** How often who waits first asks the next holder. */
const ASK_EVERY_MS = 50;

/**
 * A browser opens six HTTP/1.1 connections to a host, for all its tabs together: the seventh stream would hang until
 * another one ends. Following is exact from any offset, so a few connections are shared out in turns instead. A follower
 * keeps its connection for as long as nobody waits; once somebody does, it gives way after its slice and queues up again.
 *
 * Whoever waits first holds the lock of the turn, waits for every connection at once and asks the holders one after another.
 *
 * @param {object} settings
 * @param {string} settings.name
 * @param {number} settings.count
 * @param {number} settings.sliceMs
 */
export function createSharedConnections({ name, count, sliceMs }) {
  // The word is what tabs with another version of this library know, too.
  const names = Array.from({ length: count }, (_, index) => `${name} slot ${index}`);

  /** @param {AbortSignal} signal */
  async function takeFree(signal) {
    signal.throwIfAborted();
    for (const connection of names) {
      const release = await holdLock(connection, { ifAvailable: true });
      if (release) {
        return { connection, release };
      }
    }
    return null;
  }

  /** @param {AbortSignal} signal */
  async function takeNext(signal) {
    const channel = new BroadcastChannel(name);
    const settled = new AbortController();
    const giveUp = () => settled.abort(signal.reason);
    signal.addEventListener("abort", giveUp);
    let asked = Math.floor(Math.random() * count);
    const ask = () => {
      asked = (asked + 1) % count;
      channel.postMessage(names[asked]);
    };
    ask();
    const asking = setInterval(ask, ASK_EVERY_MS);
    try {
      return await Promise.any(
        names.map(async (connection) => {
          const release = await holdLock(connection, { signal: settled.signal });
          if (settled.signal.aborted) {
            release?.(); // two became free in one moment
          }
          settled.signal.throwIfAborted();
          settled.abort();
          return { connection, release: /** @type {() => void} */ (release) };
        }),
      );
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener("abort", giveUp);
      clearInterval(asking);
      channel.close();
    }
  }

  return {
    /**
     * Waits for a turn.
     *
     * @param {AbortSignal} signal
     * @param {() => void} onWanted called, perhaps repeatedly, when another waits and the slice is over
     * @returns {Promise<{giveBack: () => void, alive: () => void}>} `alive` is to be called with every sign of life: a
     *   hidden tab's timers come up to a second late, what the network brings does not
     */
    async take(signal, onWanted) {
      const leaveQueue = await holdLock(`${name} turn`, { signal });
      let taken;
      try {
        taken = (await takeFree(signal)) ?? (await takeNext(signal));
      } finally {
        leaveQueue?.();
      }
      const { connection, release } = taken;
      const sliceEndsMs = performance.now() + sliceMs;
      const channel = new BroadcastChannel(name);
      let wanted = false;
      /** @type {ReturnType<typeof setTimeout> | undefined} */
      let yielding;
      const look = () => {
        if (!wanted) {
          return;
        }
        const restMs = sliceEndsMs - performance.now();
        if (restMs <= 0) {
          onWanted();
        } else {
          yielding ??= setTimeout(look, restMs);
        }
      };
      channel.onmessage = ({ data }) => {
        wanted ||= data === connection;
        look();
      };
      return {
        alive: look,
        giveBack() {
          clearTimeout(yielding);
          channel.close();
          release();
        },
      };
    },
  };
}

/** Where no browser limits the connections. */
export const UNLIMITED = {
  /** @type {ReturnType<typeof createSharedConnections>["take"]} */
  async take() {
    return { giveBack() {}, alive() {} };
  },
};
