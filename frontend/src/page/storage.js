/**
 * The browser's storage. Where a browser blocks it, reading `localStorage` throws or gives null. It may also be full.
 *
 * @typedef {"storageBlocked" | "storageFull"} StorageTrouble
 */

/**
 * @param {string} key
 * @returns {string | null} null also where the storage is blocked
 */
export function readStored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/**
 * Store a value. If that fails, the former value stays.
 *
 * @param {string} key
 * @param {string} value
 * @returns {StorageTrouble | null} why it failed
 */
export function store(key, value) {
  try {
    localStorage.setItem(key, value);
    return null;
  } catch (error) {
    const full = error instanceof DOMException && error.name === "QuotaExceededError";
    return full ? "storageFull" : "storageBlocked";
  }
}
