import { expect, test } from "vitest";
import { readLines } from "./lines.js";

test("lines_are_the_same_wherever_the_network_cuts_them", async () => {
  const bytes = new TextEncoder().encode('{"text":"árvíz 🌊"}\n\n{"type":"done"}\n');
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(bytes.slice(0, cut));
        controller.enqueue(bytes.slice(cut));
        controller.close();
      },
    });
    const lines = [];
    for await (const line of readLines(body)) {
      lines.push(line);
    }
    expect(lines).toEqual(['{"text":"árvíz 🌊"}', "", '{"type":"done"}']);
  }
});
