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

const DRAFT = "folyam.draft";

/** Return what was being typed in this tab, before a reload. */
export function readDraft() {
  try {
    return sessionStorage.getItem(DRAFT);
  } catch {
    return null;
  }
}

/** Keep what is being typed, for this tab alone. Without storage, a reload loses it. @param {string} text */
export function storeDraft(text) {
  try {
    if (text === "") {
      sessionStorage.removeItem(DRAFT);
    } else {
      sessionStorage.setItem(DRAFT, text);
    }
  } catch {
    // The storage is blocked or full.
  }
}
