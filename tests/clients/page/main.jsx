// A page as the documentation of useChat has it: it keeps its messages itself, and resumes when it is loaded.
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai";
import { useEffect } from "react";
import { createRoot } from "react-dom/client";

const id = new URLSearchParams(location.search).get("chat");
const saved = JSON.parse(localStorage.getItem(id) ?? "[]");
const tools = [
  {
    type: "function",
    function: { name: "look_up", parameters: { type: "object", properties: { of: { type: "string" } } } },
  },
];

// Every run of a tool, over all loads of the page.
const ran = () => JSON.parse(localStorage.getItem("ran") ?? "[]");

function Chat() {
  const { messages, sendMessage, status, error, stop, addToolOutput } = useChat({
    id,
    messages: saved,
    resume: true,
    transport: new DefaultChatTransport({ body: { tools } }),
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall: ({ toolCall: { toolName, toolCallId, input } }) => {
      localStorage.setItem("ran", JSON.stringify([...ran(), input]));
      addToolOutput({ tool: toolName, toolCallId, output: `all about ${input.of}` });
    },
  });
  useEffect(() => localStorage.setItem(id, JSON.stringify(messages)), [messages]);
  const ask = (event) => {
    event.preventDefault();
    sendMessage({ text: event.target.elements.question.value });
  };
  const end = async () => {
    await fetch(`/api/chat/${encodeURIComponent(id)}/stop`, { method: "POST" });
    await stop();
  };
  return (
    <>
      <form onSubmit={ask}>
        <input name="question" />
      </form>
      <button onClick={end}>Stop</button>
      <p id="status">{status}</p>
      <p id="error">{error?.message}</p>
      <pre id="messages">{JSON.stringify(messages)}</pre>
      <ul>
        {messages.map((message) => (
          <li key={message.id} className={message.role}>
            {message.parts.map((part, number) =>
              part.type === "text" ? <span key={number}>{part.text}</span> : null,
            )}
          </li>
        ))}
      </ul>
    </>
  );
}

createRoot(document.getElementById("root")).render(<Chat />);
