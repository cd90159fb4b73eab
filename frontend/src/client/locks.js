/**
 * Return whether tabs can coordinate: this takes a browser of 2022 or later and a secure context. Only trying tells: where
 * storage is blocked, Chromium refuses requests for locks, and Firefox the creation of a channel.
 */
export async function tabsCanAgree() {
  if (typeof document !== "object") {
    return false;
  }
  try {
    new BroadcastChannel("folyam try").close();
    await navigator.locks.request("folyam try", { mode: "shared" }, () => {});
    return true;
  } catch {
    return false;
  }
}

/**
 * Take a lock that is shared by the browser's tabs. It is released when its tab closes.
 *
 * @param {string} name
 * @param {LockOptions} [options]
 * @returns {Promise<(() => void) | null>} releases it; null where it was not available and that was asked for
 */
export function holdLock(name, options = {}) {
  return new Promise((resolve, reject) => {
    navigator.locks
      .request(name, options, (lock) => {
        if (lock === null) {
          resolve(null);
          return undefined;
        }
        return new Promise((release) => resolve(() => release(undefined)));
      })
      .catch(reject);
  });
}
