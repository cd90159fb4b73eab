import { PATIENCE } from "./patience.js";

/** @import { Patience } from "./patience.js" */

/**
 * How to reach the service. `base` is the address that requests are relative to.
 *
 * @typedef {{fetch: Fetch, base: URL, headers: Record<string, string>, patience: Patience}} Service
 */

/** @typedef {typeof fetch} Fetch */

/**
 * Return the service that `openAnswer`'s options describe, with defaults.
 *
 * @param {{url?: string | URL, fetch?: Fetch, headers?: Record<string, string>, patience?: Partial<Patience>}} options
 * @returns {Service}
 */
export function serviceIn(options) {
  return {
    fetch: options.fetch ?? globalThis.fetch.bind(globalThis),
    base: new URL(options.url ?? "/", globalThis.location?.href),
    headers: options.headers ?? {},
    patience: { ...PATIENCE, ...options.patience },
  };
}
