// Clients that speak with the service. A line of input is an operation, a line of output its result.
import { createInterface } from "node:readline";

import { HttpAgent } from "@ag-ui/client";
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai";

import { resumingFetch } from "./resuming-fetch.mjs";

const chats = new Map();

const noting = (each) => async (url, init) => {
  const response = await fetch(url, init);
  each.http = response.status;
  return response;
};

const operations = {
  open({ name, api, id, messages, body, headers, output }) {
    const each = { ran: [] };
    const chat = new Chat({
      id,
      messages,
      transport: new DefaultChatTransport({ api, body, headers, fetch: noting(each) }),
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
      onToolCall: ({ toolCall: { toolName, toolCallId, input } }) => {
        each.ran.push(input);
        if (output !== undefined) chat.addToolOutput({ tool: toolName, toolCallId, output });
      },
    });
    chats.set(name, Object.assign(each, { chat }));
  },

  send({ name, text }) {
    const each = chats.get(name);
    each.ended = each.chat.sendMessage({ text });
  },

  resume({ name }) {
    const each = chats.get(name);
    each.ended = each.chat.resumeStream();
  },

  async leave({ name }) {
    await chats.get(name).chat.stop();
  },

  // Once nothing more is under way.
  async wait({ name }) {
    await chats.get(name).ended;
    return operations.state({ name });
  },

  state({ name }) {
    const { chat, ran, http } = chats.get(name);
    return { messages: chat.messages, status: chat.status, error: chat.error?.message, ran, http };
  },

  async run({ url, threadId, messages, tools, context, state, forwardedProps, resumes, headers }) {
    const agent = new HttpAgent({
      url,
      threadId,
      headers,
      initialMessages: messages,
      initialState: state ?? {},
      ...(resumes ? { fetch: resumingFetch } : {}),
    });
    const result = {};
    const subscriber = {
      onRunFinishedEvent: ({ event }) => void (result.finished = event),
      onRunErrorEvent: ({ event }) => void (result.failed = event),
    };
    try {
      await agent.runAgent({ tools, context, forwardedProps }, subscriber);
    } catch (error) {
      result.error = error.message;
    }
    return { ...result, messages: agent.messages };
  },
};

console.error = console.warn = () => {};
for await (const line of createInterface({ input: process.stdin })) {
  const { operation, ...given } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify((await operations[operation](given)) ?? null)}\n`);
}
