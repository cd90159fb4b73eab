import { FolyamError } from "./errors.js";
import { missingEvents } from "./history.js";
import { holdLock } from "./locks.js";
import { watchForSilence } from "./silence.js";

/** @import { AnswerEvent } from "./events.js" */
/** @import { Phase, WaitingFor } from "./state.js" */
/** @import { Subject } from "./subject.js" */

/**
 * Tabs that show the same answer use one connection: the one that holds the answer's lock leads, the others listen.
 *
 * - A listener says `join`; the leader answers with the `whole` history, from which the listener takes the events it lacks.
 * - From then on the leader passes every `event` on with the seq before it. A listener that missed one joins again.
 * - When the leader goes, its lock passes on, and the next one leads from its own position: the log has the rest.
 *
 * A leader sends nothing until a listener has joined.
 *
 * @typedef {{type: "join"} | {type: "lead"} | {type: "alive"}
 *   | {type: "whole", events: readonly AnswerEvent[], phase: Phase, waitingFor: WaitingFor | null}
 *   | {type: "event", before: number, event: AnswerEvent}
 *   | {type: "phase", phase: Phase, waitingFor: WaitingFor | null}
 *   | {type: "gave up", code: string, message: string}} Message
 */

/** Time that a leader keeps its channel open after the end, for listeners that have yet to receive it. */
const LINGER_MS = 250;

/** Minimum interval of the leader's signs of life. Listeners wait for a heartbeat's length or more. */
const ALIVE_EVERY_MS = 1000;

/**
 * Lead: wrap a subject so that listeners in other tabs are sent its events and phases.
 *
 * @param {string} name
 * @param {Subject} subject
 * @param {() => void} release
 */
function lead(name, subject, release) {
  const channel = new BroadcastChannel(name);
  let heard = false;
  let saidAliveMs = 0;
  /** @param {Message} message */
  const tell = (message) => {
    if (heard) {
      channel.postMessage(message);
    }
  };
  channel.onmessage = ({ data }) => {
    if (data.type === "join") {
      heard = true;
      const { phase, waitingFor } = subject.state();
      tell({ type: "whole", events: subject.history(), phase, waitingFor });
    }
  };
  channel.postMessage({ type: "lead" });
  /** @type {Subject & {end: () => void, giveUp: (error: unknown) => void}} */
  const leading = {
    ...subject,
    accept(event) {
      const before = subject.state().seq;
      subject.accept(event);
      tell({ type: "event", before, event });
    },
    enter(phase, waitingFor = null) {
      subject.enter(phase, waitingFor);
      tell({ type: "phase", phase, waitingFor });
    },
    alive() {
      subject.alive();
      if (performance.now() - saidAliveMs > ALIVE_EVERY_MS) {
        saidAliveMs = performance.now();
        tell({ type: "alive" });
      }
    },
    giveUp(error) {
      if (error instanceof FolyamError) {
        tell({ type: "gave up", code: error.code, message: error.message });
      }
      leading.end();
    },
    end() {
      setTimeout(
        () => {
          channel.close();
          release();
        },
        subject.state().end ? LINGER_MS : 0,
      );
    },
  };
  return leading;
}

/**
 * Listen until the answer ends, the leader's lock passes to this tab, or the leader is silent for too long, as in a tab
 * that the browser has frozen.
 *
 * @param {string} name
 * @param {Subject} subject
 * @param {{silenceMs: number, signal: AbortSignal}} options
 * @returns {Promise<(() => void) | null>} releases the lock that was taken over; null where there is none
 */
function listen(name, subject, { silenceMs, signal }) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const channel = new BroadcastChannel(name);
    const waiting = new AbortController();
    const silence = watchForSilence(silenceMs, () => end(() => resolve(null)));
    /** @param {() => void} settle */
    const end = (settle) => {
      channel.close();
      silence.end();
      signal.removeEventListener("abort", abort);
      waiting.abort();
      settle();
    };
    const abort = () => end(() => reject(signal.reason));
    signal.addEventListener("abort", abort);
    const join = () => channel.postMessage({ type: "join" });
    /** @param {MessageEvent<Message>} message */
    channel.onmessage = ({ data }) => {
      silence.alive();
      hear(data, subject, { join, gaveUp: (error) => end(() => reject(error)) });
      if (subject.state().end) {
        end(() => resolve(null));
      }
    };
    join();
    holdLock(name, { signal: waiting.signal }).then(
      (release) => end(() => resolve(release)),
      () => {}, // no longer waiting for it
    );
  });
}

/**
 * @param {Message} message
 * @param {Subject} subject
 * @param {{join: () => void, gaveUp: (error: FolyamError) => void}} reactions
 */
function hear(message, subject, { join, gaveUp }) {
  switch (message.type) {
    case "lead":
      join();
      break;
    case "whole":
      for (const event of missingEvents(subject.history(), subject.state().seq, message.events)) {
        subject.accept(event);
      }
      if (!subject.state().end) {
        subject.enter(message.phase, message.waitingFor);
      }
      break;
    case "event":
      if (message.before === subject.state().seq) {
        subject.accept(message.event);
      } else if (message.event.seq > subject.state().seq) {
        join();
      }
      break;
    case "phase":
      subject.enter(message.phase, message.waitingFor);
      break;
    case "gave up":
      gaveUp(new FolyamError(message.code, message.message));
      break;
  }
}

/**
 * Follow an answer over one connection for all tabs: `follow` is called when this tab becomes the leader.
 *
 * @param {string} name
 * @param {Subject} subject
 * @param {{silenceMs: number, signal: AbortSignal}} options
 * @param {(subject: Subject) => Promise<void>} follow
 */
export async function followTogether(name, subject, options, follow) {
  const release = (await holdLock(name, { ifAvailable: true })) ?? (await listen(name, subject, options));
  if (subject.state().end) {
    release?.();
    return;
  }
  if (!release) {
    await follow(subject); // alone
    return;
  }
  const leading = lead(name, subject, release);
  try {
    await follow(leading);
    leading.end();
  } catch (error) {
    leading.giveUp(error);
    throw error;
  }
}

/**
 * Follow a question's answer, and lead once the answer's id is known.
 *
 * @param {(id: string) => string} nameOf
 * @param {Subject} subject
 * @param {(subject: Subject) => Promise<void>} follow
 */
export async function leadOnceNamed(nameOf, subject, follow) {
  /** @type {Subject} */
  let current = subject;
  /** @type {Promise<ReturnType<typeof lead> | null>} */
  let leading = Promise.resolve(null);
  /** @type {Subject} */
  const forwarding = {
    ...subject,
    identify(id) {
      subject.identify(id);
      const name = nameOf(id);
      leading = holdLock(name, { ifAvailable: true }).then((release) => {
        if (!release) {
          return null; // another tab leads already: this one keeps a connection of its own
        }
        const leader = lead(name, subject, release);
        current = leader;
        return leader;
      });
    },
    accept: (event) => current.accept(event),
    enter: (phase, waitingFor) => current.enter(phase, waitingFor),
    alive: () => current.alive(),
  };
  try {
    await follow(forwarding);
    (await leading)?.end();
  } catch (error) {
    (await leading)?.giveUp(error);
    throw error;
  }
}
