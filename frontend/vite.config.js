import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";
import { licenses } from "./licenses.js";

const SERVICE = process.env.FOLYAM_SERVICE ?? "http://127.0.0.1:8000";

/** @param {string} name */
const lean = (name) => fileURLToPath(new URL(`src/markdown/lean/${name}.js`, import.meta.url));

/** What markdown-it imports: smaller, or not at all. */
export const ALIASES = {
  "linkify-it": lean("unused"),
  "punycode.js": lean("unused"),
  mdurl: lean("unused"),
  entities: lean("entities"),
  "uc.micro": lean("uc.micro"),
};

export default defineConfig({
  plugins: [licenses()],
  resolve: { alias: ALIASES },
  build: {
    // The page is served with img-src 'self' and no data: URLs, so nothing may be inlined into one.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
  server: {
    proxy: { "/generate": SERVICE, "/answers": SERVICE, "/limits": SERVICE },
  },
});
