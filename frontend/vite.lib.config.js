import { defineConfig } from "vite";
import { licenses } from "./licenses.js";
import { ALIASES } from "./vite.config.js";

/**
 * The package's entries that need a build, with the Markdown parser inside. The colours are loaded on demand.
 */
export default defineConfig({
  plugins: [licenses()],
  resolve: { alias: ALIASES },
  publicDir: false,
  build: {
    target: "es2022",
    outDir: "lib",
    lib: {
      entry: { markdown: "src/markdown/index.js", element: "src/element/index.js" },
      formats: ["es"],
    },
    rolldownOptions: { external: ["temml"], output: { chunkFileNames: "parts/[name].js" } },
  },
});
