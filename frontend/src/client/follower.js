import { pauseMs } from "./backoff.js";
import { readStream, responseError } from "./response.js";
import { FolyamError, isOfGateway } from "./errors.js";
import { isTerminal, parseEvent } from "./events.js";
import { watchForSilence } from "./silence.js";
import { isOffline, listenForReturn, sleepUntilReturn } from "./visibility.js";

/** @import { Service } from "./service.js" */
/** @import { Subject } from "./subject.js" */

/**
 * How one connection ended before the terminal event: it was cut, it was silent for too long, another tab took its turn, or
 * the network or the reader returned. `error` is the service's, if it sent one.
 *
 * @typedef {{why: "cut" | "silent" | "turn" | "returned", silentMs: number, error?: FolyamError | undefined}} Outcome
 */

/** Wait for the response to end by itself after the terminal event, so that the browser can reuse its connection. */
const GOODBYE_MS = 500;

/**
 * Tries to resume that have half the time each. A browser may keep five idle connections to a host. When the network dies they are
 * all dead, and each try takes one of them.
 */
const DEAD_CONNECTIONS = 5;

/**
 * Follow one answer over as many connections as needed, and pass its events to its subject. A question is sent with a key, again
 * and again until the answer's id arrives: the service begins one answer for a key. Every later connection resumes.
 */
export class Follower {
  /** Tries, and time spent on them, since the last new event. */
  #tries = 0;
  #fruitlessMs = 0;
  #offlineMs = 0;
  /** @type {FolyamError | undefined} the service's last error since then, if any */
  #complaint;
  /** @type {number} */
  #retryMs;
  /** @type {Service} */
  #service;
  /** @type {object | null} */
  #question;
  /** @type {string} */
  #key;
  /** @type {Pick<ReturnType<typeof import("./shared-connections.js").createSharedConnections>, "take">} */
  #connections;
  /** @type {Subject} */
  #subject;
  /** @type {AbortSignal} */
  #signal;

  /**
   * @param {object} parts
   * @param {object | null} parts.question the body of `POST /generate`; null where an answer is resumed
   * @param {string} parts.key the question's `Idempotency-Key`
   * @param {Subject} parts.subject
   * @param {Pick<ReturnType<typeof import("./shared-connections.js").createSharedConnections>, "take">} parts.connections
   * @param {Service} parts.service
   * @param {AbortSignal} parts.signal
   */
  constructor({ question, key, subject, connections, service, signal }) {
    this.#question = question;
    this.#key = key;
    this.#subject = subject;
    this.#connections = connections;
    this.#service = service;
    this.#signal = signal;
    this.#retryMs = service.patience.retryMs;
  }

  /** Resolves after the terminal event; rejects with a FolyamError, or with the signal's reason. */
  async run() {
    while (!this.#state.end) {
      if (this.#state.id === null && isOffline()) {
        await this.#pause({ why: "cut", silentMs: 0 });
        continue;
      }
      const before = this.#state.seq;
      const outcome = await this.#connect();
      if (this.#state.end) {
        return;
      }
      if (this.#state.seq > before) {
        this.#forgetTrouble();
      }
      if (outcome.why !== "turn" && outcome.why !== "returned") {
        this.#fruitlessMs += outcome.silentMs;
        await this.#pause(outcome);
      }
    }
  }

  get #state() {
    return this.#subject.state();
  }

  /** @returns {Promise<Outcome>} */
  async #connect() {
    const connection = createConnection();
    let answered = false;
    const turn = await this.#connections.take(this.#signal, () => answered && connection.close("turn"));
    this.#signal.addEventListener("abort", connection.close);
    const watch = this.#watch(connection);
    /** @type {FolyamError | undefined} */
    let error;
    try {
      this.#signal.throwIfAborted();
      const response = await this.#request(connection.signal);
      answered = true;
      watch.answered();
      error = await this.#receiveResponse(response, connection, () => {
        watch.alive();
        turn.alive();
        this.#subject.alive();
      });
    } catch (trouble) {
      this.#signal.throwIfAborted();
      if (trouble instanceof FolyamError) {
        error = trouble;
      } // other errors come from the connection; `why` has the reason
    } finally {
      this.#signal.removeEventListener("abort", connection.close);
      watch.end();
      turn.giveBack();
      connection.close();
    }
    return { why: connection.why, silentMs: watch.silentMs, error };
  }

  /**
   * Close the connection when it is silent for too long, or when the network or the reader returns.
   *
   * @param {Connection} connection
   */
  #watch(connection) {
    const { silenceMs, suspicionMs, resumeMs } = this.#service.patience;
    const fallSilent = () => connection.close("silent");
    const silence = watchForSilence(silenceMs, fallSilent);
    const unanswered =
      this.#state.id === null
        ? undefined
        : setTimeout(
            fallSilent,
            Math.min(silenceMs, (resumeMs / 2) * 2 ** Math.max(0, this.#tries - DEAD_CONNECTIONS)),
          );
    const stopListening = listenForReturn((kind) => {
      if (kind === "online" || silence.silentMs > suspicionMs) {
        this.#forgetTrouble();
        connection.close("returned");
      }
    });
    return {
      answered() {
        clearTimeout(unanswered);
        silence.alive();
      },
      alive: silence.alive,
      get silentMs() {
        return silence.silentMs;
      },
      end() {
        clearTimeout(unanswered);
        silence.end();
        stopListening();
      },
    };
  }

  /**
   * @param {Response} response
   * @param {Connection} connection
   * @param {() => void} onLife
   * @returns {Promise<FolyamError | undefined>} the service's error, in place of a stream
   */
  async #receiveResponse(response, connection, onLife) {
    if (response.status === 204) {
      await this.#readTheEnd(connection.signal);
      return undefined;
    }
    const error = await responseError(response);
    if (error) {
      return error;
    }
    await this.#read(response, onLife, connection.close);
    return undefined;
  }

  /**
   * @param {Response} response
   * @param {() => void} onLife
   * @param {() => void} hangUp
   */
  async #read(response, onLife, hangUp) {
    const id = response.headers.get("X-Answer-Id");
    if (id !== null && this.#state.id === null) {
      this.#subject.identify(id);
    }
    const { text, reasoning, toolCalls } = this.#state;
    this.#subject.enter(text === "" && reasoning === "" && toolCalls.length === 0 ? "waiting" : "streaming");
    await readStream(/** @type {ReadableStream<Uint8Array>} */ (response.body), {
      onLife,
      onMessage: (data) => {
        if (this.#receive(data)) {
          setTimeout(hangUp, GOODBYE_MS);
        }
      },
      onRetry: (ms) => {
        // Not below the library's own pause, and short enough for another try before `giveUpMs`.
        const { retryMs, giveUpMs } = this.#service.patience;
        this.#retryMs = Math.max(retryMs, Math.min(ms, giveUpMs / 2));
      },
    });
  }

  /** @param {AbortSignal} signal */
  #request(signal) {
    const { fetch, base, headers } = this.#service;
    const { id, seq } = this.#state;
    const accept = { ...headers, Accept: "text/event-stream" };
    if (id === null) {
      return fetch(new URL("generate", base), {
        method: "POST",
        headers: { ...accept, "Content-Type": "application/json", "Idempotency-Key": this.#key },
        body: JSON.stringify(this.#question),
        cache: "no-store",
        signal,
      });
    }
    return fetch(new URL(`answers/${encodeURIComponent(id)}`, base), {
      headers: seq > 0 ? { ...accept, "Last-Event-ID": `${id}:${seq}` } : accept,
      cache: "no-store",
      signal,
    });
  }

  /**
   * @param {string} data
   * @returns {boolean} whether it was the end
   */
  #receive(data) {
    const event = parseEvent(data);
    if (event === null) {
      throw new FolyamError("protocol", "The server sent data that is not an event of an answer.");
    }
    if (event.type === "start" && this.#state.id !== null && event.answer !== this.#state.id) {
      // A second generation must not be shown as a continuation of the first.
      throw new FolyamError("protocol", "The server sent a different answer from the one requested.", {
        retryable: false,
      });
    }
    if (event.seq <= this.#state.seq) {
      return false; // seen before
    }
    if (event.type === "start" && this.#state.id === null) {
      this.#subject.identify(event.answer);
    }
    this.#subject.accept(event);
    return isTerminal(event);
  }

  /**
   * Wait before the next try, or throw if there must be none.
   *
   * @param {Outcome} outcome
   */
  async #pause({ why, error = undefined }) {
    const { patience } = this.#service;
    const offline = isOffline();
    this.#mayTryAgain(error);
    this.#complaint = error ?? this.#complaint;
    this.#tries += 1;
    const askedMs = error?.retryAfterMs ?? null;
    const ms = pauseMs(this.#tries, askedMs, {
      baseMs: this.#retryMs,
      maxMs: Math.max(this.#retryMs, patience.maxRetryMs),
    });
    if (
      offline ? this.#offlineMs + ms > patience.offlineGiveUpMs : this.#fruitlessMs + ms > patience.giveUpMs
    ) {
      throw offline
        ? new FolyamError("offline", "This device has been offline for too long.")
        : new FolyamError(
            this.#complaint?.code ?? "unreachable",
            this.#complaint?.message ?? GAVE_UP[why] ?? GAVE_UP.cut,
            { status: this.#complaint?.status ?? null, retryAfterMs: askedMs, cause: this.#complaint },
          );
    }
    const what = offline ? "network" : askedMs === null ? "retry" : "service";
    this.#subject.enter(this.#state.id === null ? "connecting" : "reconnecting", {
      what,
      untilMs: offline ? null : Date.now() + ms,
    });
    const returned = await sleepUntilReturn(ms, this.#signal, askedMs !== null);
    if (returned) {
      this.#forgetTrouble();
    } else if (offline) {
      this.#offlineMs += ms;
    } else {
      this.#fruitlessMs += ms;
    }
  }

  /**
   * @param {FolyamError | undefined} error
   */
  #mayTryAgain(error) {
    // A refused question is sent again only if the service names a time for it. One whose fate is unknown is: its answer may be
    // under way, and the key leads to it.
    const isRefused = this.#state.id === null && error?.retryAfterMs === null && !isOfGateway(error);
    if (error && (!error.retryable || isRefused)) {
      throw error;
    }
  }

  #forgetTrouble() {
    this.#tries = 0;
    this.#fruitlessMs = 0;
    this.#offlineMs = 0;
    this.#complaint = undefined;
  }

  /**
   * Read how the answer ended. A 204 says only that no event follows the last one seen.
   *
   * @param {AbortSignal} signal
   */
  async #readTheEnd(signal) {
    const { fetch, base, headers } = this.#service;
    const { id, seq } = this.#state;
    const response = await fetch(new URL(`answers/${encodeURIComponent(id ?? "")}?stream=false`, base), {
      headers: { ...headers, Accept: "application/json" },
      cache: "no-store",
      signal,
    });
    const whole = await response.json();
    const event = {
      finish_reason: null,
      by: "unknown",
      code: "unknown",
      message: "The answer failed.",
      retryable: true,
      usage: whole.usage,
      usage_complete: whole.usage_complete,
      timing: whole.timing,
      seq: Math.max(Number(whole.last_seq), seq),
      type: whole.state,
    };
    if (!isTerminal(event)) {
      throw new FolyamError("protocol", "The server sent 204 for an answer that is still running.");
    }
    this.#subject.accept(event);
  }
}

/** @type {Partial<Record<Outcome["why"], string>> & {cut: string}} */
const GAVE_UP = {
  cut: "The server could not be reached for too long.",
  silent: "The server has been silent for too long.",
};

/** @typedef {ReturnType<typeof createConnection>} Connection */

/** The abort signal of one connection, and the reason for closing it: `cut` unless `close` was given another. */
function createConnection() {
  const aborting = new AbortController();
  /** @type {Outcome["why"]} */
  let why = "cut";
  return {
    signal: aborting.signal,
    get why() {
      return why;
    },
    /** @param {Outcome["why"] | Event} [reason] */
    close(reason) {
      if (typeof reason === "string") {
        why = reason;
      }
      aborting.abort();
    },
  };
}
