/**
 * Whether tabs can agree on anything here: a browser of 2022 or later, in a secure context. Only a try shows it: where
 * storage is blocked, a request for a lock is refused in Chromium, and a channel cannot be made in Firefox.
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
 * Takes a lock that every tab of the browser sees, and that ends with its tab.
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
