// Reads bodies with the clients' own code. A line of input is a job, a line of output its result.
import { createInterface } from "node:readline";

import { HttpAgent } from "@ag-ui/client";
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";

const responseOf = (body) => new Response(body, { headers: { "content-type": "text/event-stream" } });

// `resumes`: as the response to a reconnection, and not as that to a question.
async function useChat({ body, messages, resumes }) {
  const toolCalls = [];
  let end;
  const chat = new Chat({
    id: "chat",
    messages,
    transport: new DefaultChatTransport({ fetch: async () => responseOf(body) }),
    onToolCall: ({ toolCall }) => void toolCalls.push({ id: toolCall.toolCallId, input: toolCall.input }),
    onFinish: ({ isError, finishReason }) => (end = { isError, finishReason }),
  });
  await (resumes ? chat.resumeStream() : chat.sendMessage());
  return { messages: chat.messages, status: chat.status, error: chat.error?.message, toolCalls, end };
}

async function agUi({ body, messages }) {
  const agent = new HttpAgent({
    url: "http://service/ag-ui",
    threadId: "thread",
    initialMessages: messages,
    fetch: async () => responseOf(body),
  });
  const toolCalls = [];
  let finished;
  let failed;
  const subscriber = {
    onToolCallEndEvent: ({ event, toolCallArgs }) =>
      void toolCalls.push({ id: event.toolCallId, input: toolCallArgs }),
    onRunFinishedEvent: ({ event }) => void (finished = event),
    onRunErrorEvent: ({ event }) => void (failed = event),
  };
  let error;
  try {
    await agent.runAgent({ runId: "run" }, subscriber);
  } catch (thrown) {
    error = thrown.message;
  }
  return { messages: agent.messages, error, finished, failed, toolCalls };
}

console.error = console.warn = () => {};
const clients = { useChat, agUi };
for await (const line of createInterface({ input: process.stdin })) {
  const { client, ...job } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await clients[client](job))}\n`);
}
