import { defineConfig } from "vite";

const SERVICE = process.env.FOLYAM_SERVICE ?? "http://127.0.0.1:8000";

export default defineConfig({
  build: {
    // The page is served with img-src 'self' and no data: URLs, so nothing may be inlined into one.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
  server: {
    proxy: { "/generate": SERVICE, "/answers": SERVICE },
  },
});
