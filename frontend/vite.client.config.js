import { defineConfig } from "vite";

/** The client library as one file, with the parser of Server-Sent Events inside: for pages without a bundler. */
export default defineConfig({
  publicDir: false,
  build: {
    target: "es2022",
    lib: { entry: "src/client/served.js", formats: ["es"], fileName: "client" },
    rolldownOptions: { output: { minify: true } },
  },
});
