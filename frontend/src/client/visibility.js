/** Whether the device says that it has no network. It may be wrong either way, so it only ever shortens or explains a wait. */
export function isOffline() {
  return globalThis.navigator?.onLine === false;
}

/**
 * Tells of moments after which a connection may be dead without having said so: the network came back (`online`), the
 * page came back from the back-forward cache (`online`, too: its connections are gone), or someone looks at it again
 * after it may have slept (`visible`).
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
 * @param {number} ms
 * @param {AbortSignal} signal
 * @param {boolean} deaf a service that named a time is not asked sooner
 * @returns {Promise<boolean>} whether a return ended it early
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
