// OpenAI's SDK for JavaScript: one job a line, one result a line, as chat_clients.py has them.
import { createInterface } from "node:readline";
import OpenAI from "openai";

async function ask(job) {
  const client = new OpenAI({ baseURL: job.base_url, apiKey: job.key, maxRetries: 0 });
  const asked = { model: job.model, messages: [{ role: "user", content: job.query }], tools: job.tools };
  if (job.stream) {
    const stream = client.chat.completions.stream({ ...asked, stream_options: { include_usage: true } });
    return resultOf(await stream.finalChatCompletion());
  }
  const completion = await client.chat.completions.create(asked);
  const again = await client.chat.completions.retrieve(completion.id);
  if (JSON.stringify(again) !== JSON.stringify(completion)) throw new Error("it is another completion by its id");
  return resultOf(completion);
}

function resultOf({ choices: [choice], usage }) {
  const calls = choice.message.tool_calls ?? [];
  return {
    text: choice.message.content,
    reasoning: choice.message.reasoning_content ?? null,
    calls: calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]),
    finish_reason: choice.finish_reason,
    tokens: usage.total_tokens,
  };
}

function classesOf(error) {
  const names = [];
  for (let type = error.constructor; type?.name; type = Object.getPrototypeOf(type)) names.push(type.name);
  return names;
}

for await (const line of createInterface({ input: process.stdin })) {
  const job = { key: "a-client-of-the-tests-0123456789", model: "test-model", ...JSON.parse(line) };
  const result = await ask(job).catch((error) => ({ error: classesOf(error), message: error.message }));
  console.log(JSON.stringify(result));
}
