import { PATIENCE } from "./patience.js";

/** @import { Patience } from "./patience.js" */

/**
 * How to reach the service.
 *
 * @typedef {{fetch: Fetch, base: URL, headers: Record<string, string>, patience: Patience}} Service
 */

/** @typedef {typeof fetch} Fetch */

/**
 * The service that `openAnswer`'s options name, with the defaults for those left out.
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
