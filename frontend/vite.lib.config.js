import { defineConfig } from "vite";
import { licenses } from "./licenses.js";
import { ALIASES } from "./vite.config.js";

/** The renderer as the package has it: one file with its parser inside, and one for the colours. */
export default defineConfig({
  plugins: [licenses()],
  resolve: { alias: ALIASES },
  publicDir: false,
  build: {
    target: "es2022",
    outDir: "lib",
    lib: { entry: "src/markdown/index.js", formats: ["es"], fileName: "markdown" },
    rolldownOptions: { external: ["temml"], output: { chunkFileNames: "[name].js" } },
  },
});
