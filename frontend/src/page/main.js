import { readLines } from "./lines.js";

const ENGLISH = {
  question: "Your question",
  send: "Ask",
  waiting: "Waiting for the model …",
  /** @param {string} seconds */
  finished: (seconds) => `Done in ${seconds} s.`,
  stopped: "Stopped before its end.",
  cut: "The connection was cut before the end of the answer.",
  unreadable: "The server sent something that is not JSON.",
};

/** @type {typeof ENGLISH} */
const HUNGARIAN = {
  question: "A kérdésed",
  send: "Kérdezem",
  waiting: "Várakozás a modellre …",
  finished: (seconds) => `Kész, ${seconds} mp alatt.`,
  stopped: "A válasz a vége előtt leállt.",
  cut: "A kapcsolat a válasz vége előtt megszakadt.",
  unreadable: "A kiszolgáló válasza nem JSON.",
};

const language = navigator.language.startsWith("hu") ? "hu" : "en";
const words = language === "hu" ? HUNGARIAN : ENGLISH;

/**
 * @template {Element} T
 * @param {string} selector
 * @param {{new (): T}} kind
 */
function find(selector, kind) {
  const element = document.querySelector(selector);
  if (!(element instanceof kind)) {
    throw new Error(`The page has no ${selector}`);
  }
  return element;
}

const form = find("#ask", HTMLFormElement);
const query = find("#query", HTMLTextAreaElement);
const button = find("#ask button", HTMLButtonElement);
const status = find("#status", HTMLElement);
const answer = find("#answer", HTMLElement);

document.documentElement.lang = language;
find("label[for=query]", HTMLLabelElement).textContent = words.question;
button.textContent = words.send;

/** @param {Response} response */
async function refusal(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `HTTP ${response.status}`;
  }
}

/** @param {string} question */
async function ask(question) {
  const began = performance.now();
  const response = await fetch("/generate", {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify({ query: question }),
  });
  if (!response.ok || !response.body) {
    return refusal(response);
  }
  for await (const line of readLines(response.body)) {
    if (line.trim() === "") {
      continue; // a heartbeat
    }
    let event;
    try {
      event = JSON.parse(line);
    } catch {
      return words.unreadable;
    }
    switch (event.type) {
      case "delta":
        answer.append(event.text ?? "");
        break;
      case "restart":
        answer.replaceChildren();
        break;
      case "done":
        return words.finished(
          ((performance.now() - began) / 1000).toLocaleString(language, { maximumFractionDigits: 1 }),
        );
      case "stopped":
        return words.stopped;
      case "failed":
        return event.message;
    }
  }
  return words.cut;
}

form.onsubmit = async (submission) => {
  submission.preventDefault();
  button.disabled = true;
  answer.replaceChildren();
  status.textContent = words.waiting;
  try {
    status.textContent = await ask(query.value);
  } catch {
    status.textContent = words.cut;
  } finally {
    button.disabled = false;
  }
};

query.onkeydown = (key) => {
  if (key.key === "Enter" && !key.shiftKey && !key.isComposing) {
    key.preventDefault();
    form.requestSubmit();
  }
};
