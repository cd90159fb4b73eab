/**
 * Build the page into dist/, and the client library as one file, /client.js, beside it.
 *
 *     node build.js [--outDir directory]
 */
import { parseArgs } from "node:util";
import { build } from "vite";

const { outDir = "dist" } = parseArgs({ options: { outDir: { type: "string" } } }).values;
await build({ logLevel: "error", build: { outDir, emptyOutDir: true } });
await build({
  logLevel: "error",
  configFile: "vite.client.config.js",
  build: { outDir, emptyOutDir: false },
});
