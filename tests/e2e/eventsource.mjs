// Follows an answer with the npm package `eventsource`, and prints what it saw as JSON when it is over.
import { createRequire } from "node:module";

const require = createRequire(new URL("../../frontend/package.json", import.meta.url));
const { EventSource } = require("eventsource");

const [address] = process.argv.slice(2);
const source = new EventSource(address);
const events = [];
let opens = 0;

source.addEventListener("open", () => {
  opens += 1;
});
source.addEventListener("error", (event) => {
  if (source.readyState === EventSource.CLOSED) {
    console.log(JSON.stringify({ events, opens, code: event.code }));
  }
});
for (const type of ["start", "delta", "restart", "done", "stopped", "failed"]) {
  source.addEventListener(type, (event) => events.push(JSON.parse(event.data)));
}
