// Durable Streams' own client follows an answer to its end, and continues from its last offset where the stream breaks.
// The arguments are the stream's address, the offset and the mode. Prints what was seen as JSON.
import { stream } from "@durable-streams/client";

const [url, from, live] = process.argv.slice(2);

/**
 * Follow until the stream is closed. Throws what the client throws.
 */
async function follow(offset, seen) {
  const answer = await stream({ url, offset, live: live === "true" ? true : live });
  await new Promise((resolve, reject) => {
    answer.subscribeJson((batch) => {
      seen.items.push(...batch.items);
      seen.offset = batch.offset;
      seen.batches += 1;
      if (batch.streamClosed) resolve();
    });
    answer.closed.catch(reject);
  });
}

const seen = { items: [], offset: from, batches: 0, errors: [] };
for (;;) {
  try {
    await follow(seen.offset, seen);
    break;
  } catch (error) {
    seen.errors.push(error.message);
  }
}
console.log(JSON.stringify(seen));
