/**
 * Call `onSilence` after `patienceMs` without a call of `alive`. `alive` only notes the time, so it may be called for every
 * chunk.
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
