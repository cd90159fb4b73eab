import { holdLock } from "./locks.js";

/** Interval at which the first tab in the queue asks the next holder. */
const ASK_EVERY_MS = 50;

/**
 * Share a few connections among the browser's tabs. A browser opens six HTTP/1.1 connections to a host, for all tabs
 * together, and a seventh stream hangs until another one ends. As an answer can be resumed from any event, followers take
 * turns instead: one keeps its connection while no other waits, and otherwise gives it up after its slice and queues again.
 *
 * The first tab in the queue holds the lock `turn`. It waits for all connections at once and asks their holders in turn.
 *
 * @param {object} settings
 * @param {string} settings.name
 * @param {number} settings.count
 * @param {number} settings.sliceMs
 */
export function createSharedConnections({ name, count, sliceMs }) {
  // These names must not change: tabs with another version of the page use them, too.
  const names = Array.from({ length: count }, (_, index) => `${name} slot ${index}`);
  return {
    /**
     * Wait for a connection.
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
        taken = (await takeFree(names, signal)) ?? (await takeNext(name, names, signal));
      } finally {
        leaveQueue?.();
      }
      const { connection, release } = taken;
      const slice = watchSlice(name, connection, sliceMs, onWanted);
      return {
        alive: slice.look,
        giveBack() {
          slice.end();
          release();
        },
      };
    },
  };
}

/**
 * @typedef {{connection: string, release: () => void}} Taken a connection's lock
 */

/**
 * @param {string[]} names
 * @param {AbortSignal} signal
 * @returns {Promise<Taken | null>}
 */
async function takeFree(names, signal) {
  signal.throwIfAborted();
  for (const connection of names) {
    const release = await holdLock(connection, { ifAvailable: true });
    if (release) {
      return { connection, release };
    }
  }
  return null;
}

/**
 * @param {string} name the channel's
 * @param {string[]} names the connections'
 * @param {AbortSignal} signal
 * @returns {Promise<Taken>}
 */
async function takeNext(name, names, signal) {
  const settled = new AbortController();
  const giveUp = () => settled.abort(signal.reason);
  signal.addEventListener("abort", giveUp);
  const stopAsking = askHolders(name, names);
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
    stopAsking();
  }
}

/**
 * Ask the connections' holders, one after another, to give way.
 *
 * @param {string} name the channel's
 * @param {string[]} names the connections'
 * @returns {() => void} ends it
 */
function askHolders(name, names) {
  const channel = new BroadcastChannel(name);
  let asked = Math.floor(Math.random() * names.length);
  const ask = () => {
    asked = (asked + 1) % names.length;
    channel.postMessage(names[asked]);
  };
  ask();
  const asking = setInterval(ask, ASK_EVERY_MS);
  return () => {
    clearInterval(asking);
    channel.close();
  };
}

/**
 * Call `onWanted` once another tab has asked for the connection and the slice is over.
 *
 * @param {string} name the channel's
 * @param {string} connection
 * @param {number} sliceMs
 * @param {() => void} onWanted
 */
function watchSlice(name, connection, sliceMs, onWanted) {
  const endsMs = performance.now() + sliceMs;
  const channel = new BroadcastChannel(name);
  let wanted = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const look = () => {
    if (!wanted) {
      return;
    }
    const restMs = endsMs - performance.now();
    if (restMs <= 0) {
      onWanted();
    } else {
      timer ??= setTimeout(look, restMs);
    }
  };
  channel.onmessage = ({ data }) => {
    wanted ||= data === connection;
    look();
  };
  return {
    look,
    end() {
      clearTimeout(timer);
      channel.close();
    },
  };
}

/** For platforms without a limit on connections. */
export const UNLIMITED = {
  /** @type {ReturnType<typeof createSharedConnections>["take"]} */
  async take() {
    return { giveBack() {}, alive() {} };
  },
};
