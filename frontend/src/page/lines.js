/**
 * The lines of a response's body, as they arrive. A character cut in two by the network waits for its other half.
 *
 * @param {ReadableStream<Uint8Array>} body
 */
export async function* readLines(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
    if (done) {
      return;
    }
  }
}
