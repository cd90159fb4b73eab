/**
 * Calls `onSilence` once nothing has been alive for `patienceMs`. Signs of life only note the time, so they may come a
 * thousand times a second.
 *
 * @param {number} patienceMs
 * @param {() => void} onSilence
 */
export function watchForSilence(patienceMs, onSilence) {
  let lastMs = performance.now();
  /** @type {ReturnType<typeof setTimeout>} */
  let timer;
  const look = () => {
    const restMs = lastMs + patienceMs - performance.now();
    if (restMs <= 0) {
      onSilence();
    } else {
      timer = setTimeout(look, restMs);
    }
  };
  timer = setTimeout(look, patienceMs);
  return {
    alive() {
      lastMs = performance.now();
    },
    get silentMs() {
      return performance.now() - lastMs;
    },
    end() {
      clearTimeout(timer);
    },
  };
}
