/** Whether tabs can agree on anything here: a browser, in a secure context, of 2022 or later. */
export function tabsCanAgree() {
  return (
    typeof document === "object" &&
    typeof navigator.locks?.request === "function" &&
    typeof BroadcastChannel === "function"
  );
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
