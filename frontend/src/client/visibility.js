/** Return whether the device reports no network. It may be wrong, so callers use it only to shorten or explain a wait. */
export function isOffline() {
  return globalThis.navigator?.onLine === false;
}

/**
 * Call `onReturn` at moments after which a connection may be dead unnoticed: the network is back (`online`), the page was
 * restored from the back-forward cache, which closes connections (also `online`), or the page is shown again and the device
 * may have slept in between (`visible`).
 *
 * @param {(kind: "online" | "visible") => void} onReturn
 * @returns {() => void} ends it
 */
export function listenForReturn(onReturn) {
  const ended = new AbortController();
  const until = { signal: ended.signal };
  const { document } = globalThis;
  globalThis.addEventListener?.("online", () => onReturn("online"), until);
  globalThis.addEventListener?.(
    "pageshow",
    (event) => {
      if (event.persisted) {
        onReturn("online");
      }
    },
    until,
  );
  document?.addEventListener(
    "visibilitychange",
    () => {
      if (document.visibilityState === "visible") {
        onReturn("visible");
      }
    },
    until,
  );
  return () => ended.abort();
}

/**
 * Sleep until the time is over, or until the network or the reader returns.
 *
 * @param {number} ms
 * @param {AbortSignal} signal
 * @param {boolean} deaf ignore returns: a service that named a time is not asked sooner
 * @returns {Promise<boolean>} whether a return ended the sleep early
 */
export function sleepUntilReturn(ms, signal, deaf) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    /** @param {() => void} settle */
    const end = (settle) => {
      clearTimeout(timer);
      stopListening();
      signal.removeEventListener("abort", abort);
      settle();
    };
    const abort = () => end(() => reject(signal.reason));
    const timer = setTimeout(() => end(() => resolve(false)), ms);
    const stopListening = deaf ? () => {} : listenForReturn(() => end(() => resolve(true)));
    signal.addEventListener("abort", abort);
  });
}
