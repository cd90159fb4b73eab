/**
 * The browser's storage. A browser may forbid it, and then even the name `localStorage` throws or is null; and it may be
 * full.
 *
 * @typedef {"storageBlocked" | "storageFull"} StorageTrouble
 */

/**
 * @param {string} key
 * @returns {string | null} null also where the storage is forbidden
 */
export function readStored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/**
 * Stores a value. Where that fails, the former value stays.
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
