// OpenAI's SDK for JavaScript with its own retries. A line of input is a request, a line of output what came of it; many
// are under way at once.
import { createInterface } from "node:readline";
import OpenAI from "openai";

async function chat(client, { query, stream }) {
  const messages = [{ role: "user", content: query }];
  const asked = await client.chat.completions.create({ model: "test-model", messages, stream });
  if (!stream) return { text: asked.choices[0].message.content, end: "completed" };
  const seen = { text: "", end: null };
  for await (const { choices } of asked) {
    seen.text += choices[0].delta.content ?? "";
    if (choices[0].finish_reason === "stop") seen.end = "completed";
  }
  return seen;
}

async function responses(client, { query, stream }) {
  const asked = await client.responses.create({ model: "test-model", input: query, stream });
  if (!stream) return { text: asked.output_text, end: asked.status };
  const seen = { text: "", end: null };
  for await (const event of asked) {
    if (event.type === "response.output_text.delta") seen.text += event.delta;
    if (event.type === "response.completed") seen.end = event.response.status;
  }
  return seen;
}

const doors = { chat, responses };

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  const client = new OpenAI({ baseURL: job.base_url, apiKey: "any" });
  doors[job.door](client, job)
    .catch((error) => ({ error: error.constructor.name }))
    .then((seen) => console.log(JSON.stringify({ ...seen, id: job.id })));
}
