/**
 * A service that misbehaves: the HTTP contract over a real socket, with an endpoint for each misbehaviour.
 *
 * It is written for Node, and not in Python as the project's other servers are, so that the package's suite needs nothing
 * but the package: `npm test` starts it beside the test runner.
 *
 *     node test/server.js [port]
 */
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { BEHAVIOURS } from "./behaviours.js";

/** @import { Behaviour, Course } from "./behaviours.js" */

const VOICES = ["text", "reasoning", "refusal"];
const DEFAULT_CHUNKS = 20;
const DEFAULT_PACE_MS = 2;

/**
 * Suites run in a page of another origin. And no connection is used twice: on one that it has used before, Chromium by
 * itself repeats a request, even a POST, that is cut before its status.
 */
const ANY_ORIGIN = {
  Connection: "close",
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Headers": "*",
  "Access-Control-Allow-Methods": "*",
  "Access-Control-Expose-Headers": "*",
  "Access-Control-Max-Age": "600",
};

/** One answer: a log that grows with time, whoever looks. */
class Answer {
  id = randomUUID();
  connections = 0;
  open = 0;
  mostOpen = 0;
  stops = 0;
  /** @type {number | null} */
  stoppedAt = null;
  beganMs = performance.now();

  /** @param {Behaviour} behaviour @param {string} run */
  constructor(behaviour, run) {
    this.behaviour = behaviour;
    this.run = run;
    this.chunks = behaviour.chunks ?? DEFAULT_CHUNKS;
  }

  /** The last event that exists by now. @returns {number} */
  get last() {
    const { paceMs = DEFAULT_PACE_MS, firstMs = 0, instead } = this.behaviour;
    const ms = performance.now() - this.beganMs - firstMs;
    const failed = Object.entries(instead ?? {}).find(([, { type }]) => type === "failed");
    const full = failed ? Number(failed[0]) : this.chunks + 2;
    const reached = paceMs === 0 ? full : Math.max(1, Math.min(full, 1 + Math.floor(ms / paceMs)));
    return this.stoppedAt ?? reached;
  }

  /** @param {number} seq @returns {Record<string, unknown>} */
  event(seq) {
    const { instead } = this.behaviour;
    if (seq === this.stoppedAt) {
      return { seq, type: "stopped", by: "user" };
    }
    if (seq === 1) {
      return { seq, type: "start", answer: this.id, model: "misbehaving" };
    }
    if (instead?.[seq]) {
      return { seq, ...instead[seq] };
    }
    if (seq === this.chunks + 2) {
      const usage = { prompt_tokens: 1, completion_tokens: this.chunks, total_tokens: this.chunks + 1 };
      const timing = { first_chunk_seconds: 0.01, duration_seconds: 0.1 };
      return { seq, type: "done", finish_reason: "stop", usage, timing };
    }
    return { seq, type: "delta", text: `ő${seq - 1} ` };
  }

  isEnd(/** @type {number} */ seq) {
    return ["done", "stopped", "failed"].includes(String(this.event(seq).type));
  }

  stop() {
    if (this.stoppedAt === null && !this.isEnd(this.last)) {
      this.stoppedAt = this.last + 1;
    }
  }

  /** What a client should have in the end. */
  get text() {
    let text = "";
    for (let seq = 1; seq <= this.last; seq += 1) {
      const event = this.event(seq);
      text = event.type === "restart" ? "" : text + (event.text ?? event.refusal ?? "");
    }
    return text;
  }

  get state() {
    const { type } = this.event(this.last);
    return this.isEnd(this.last) ? type : "running";
  }
}

/** @param {Answer} answer @param {number} from @param {number} to */
function mergedDeltas(answer, from, to) {
  /** @type {Record<string, unknown>[]} */
  const events = [];
  for (let seq = from; seq <= to; seq += 1) {
    const event = answer.event(seq);
    const last = events.at(-1);
    const voice = VOICES.find((each) => each in event);
    if (last && voice && voice in last) {
      events[events.length - 1] = { ...event, [voice]: `${last[voice]}${event[voice]}` };
    } else {
      events.push(event);
    }
  }
  return events;
}

/** @param {import("node:http").ServerResponse} response @param {Course} course @returns {boolean} whether that was all */
function misbehaveFirst(response, course) {
  if (course.hangUpFirst) {
    response.socket?.destroy();
    return true;
  }
  if (course.noStatus) {
    return true;
  }
  if (course.status !== undefined) {
    const type = course.type === undefined ? {} : { "Content-Type": course.type };
    response.writeHead(course.status, { ...ANY_ORIGIN, ...type, ...course.headers }).end(course.body);
    return true;
  }
  return false;
}

/** @param {Answer} answer @param {number} after @param {import("node:http").ServerResponse} response */
function follow(answer, after, response) {
  answer.connections += 1;
  const { behaviour } = answer;
  const course = behaviour.course?.(answer.connections) ?? {};
  if (misbehaveFirst(response, course)) {
    return;
  }
  response.writeHead(200, {
    ...ANY_ORIGIN,
    "Content-Type": course.type ?? "text/event-stream",
    "Cache-Control": "no-store",
    ...(!behaviour.noAnswerHeader && { "X-Answer-Id": answer.id }),
  });
  response.flushHeaders();
  answer.open += 1;
  answer.mostOpen = Math.max(answer.mostOpen, answer.open);
  let seq = course.fromTheStart ? 0 : after;
  let sent = 0;
  let lastWriteMs = performance.now();
  /** @param {string} text */
  const write = (text) => {
    lastWriteMs = performance.now();
    if (course.byteByByte) {
      for (const byte of Buffer.from(text)) {
        response.write(Buffer.from([byte]));
      }
    } else {
      response.write(text);
    }
  };
  if (course.preamble) {
    write(course.preamble);
  }
  const id = course.anotherAnswer ? randomUUID() : answer.id;
  const step = () => {
    const events = course.merge ? mergedDeltas(answer, seq + 1, answer.last) : [];
    while (seq < answer.last) {
      if (sent === course.cutAfter) {
        // After a moment, so that what was written leaves before the cut.
        setTimeout(() => response.socket?.destroy(), 5);
        return;
      }
      if (sent === course.endAfter) {
        response.end();
        return;
      }
      if (sent === course.stallAfter) {
        return;
      }
      if (sent === course.garbageAfter) {
        write('data: {"seq": 3, "ty\nid: x\n\n');
        return;
      }
      const event = events.shift() ?? answer.event(seq + 1);
      seq = Number(event.seq);
      sent += 1;
      const data = JSON.stringify(event.type === "start" ? { ...event, answer: id } : event);
      write(`event: ${event.type}\ndata: ${data}\nid: ${id}:${seq}\n\n`);
      if (answer.isEnd(seq)) {
        response.end();
        return;
      }
    }
    if (performance.now() - lastWriteMs >= (behaviour.heartbeatMs ?? 15_000)) {
      write(":\n");
    }
    timer = setTimeout(step, Math.min(behaviour.paceMs ?? DEFAULT_PACE_MS, 20));
  };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  response.on("close", () => {
    answer.open -= 1;
    clearTimeout(timer);
  });
  step();
}

/** Starts it. @param {number} [port] */
export async function startServer(port = 0) {
  /** @type {Map<string, Answer>} */
  const answers = new Map();
  /** @type {Map<string, number>} */
  const questions = new Map();

  /** @param {import("node:http").IncomingMessage} request */
  const read = async (request) => {
    let body = "";
    for await (const chunk of request.setEncoding("utf8")) {
      body += chunk;
    }
    return body;
  };

  /** @param {import("node:http").ServerResponse} response @param {unknown} value @param {number} [status] */
  const answerJson = (response, value, status = 200) =>
    response
      .writeHead(status, { ...ANY_ORIGIN, "Content-Type": "application/json" })
      .end(JSON.stringify(value));

  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://test");
    const [, name = "", ...path] = url.pathname.split("/");
    const behaviour = BEHAVIOURS[name];
    if (request.method === "OPTIONS") {
      response.writeHead(204, ANY_ORIGIN).end();
    } else if (name === "report") {
      const run = url.searchParams.get("run");
      const ofRun = [...answers.values()].filter((answer) => answer.run === run);
      answerJson(response, {
        questions: questions.get(run ?? "") ?? 0,
        answers: ofRun.map(({ id, connections, mostOpen, stops, text, state }) => ({
          id,
          connections,
          mostOpen,
          stops,
          text,
          state,
        })),
      });
    } else if (behaviour && request.method === "POST" && path[0] === "generate") {
      const { query } = JSON.parse(await read(request));
      questions.set(query, (questions.get(query) ?? 0) + 1);
      if (misbehaveFirst(response, behaviour.questionCourse?.(questions.get(query) ?? 1) ?? {})) {
        return;
      }
      const answer = new Answer(behaviour, query);
      answers.set(answer.id, answer);
      follow(answer, 0, response);
    } else if (behaviour && path[0] === "answers") {
      const answer = answers.get(path[1] ?? "");
      if (!answer) {
        answerJson(response, { error: { code: "unknown_answer", message: "There is no such answer." } }, 404);
      } else if (path[2] === "stop") {
        answer.stops += 1;
        if (!misbehaveFirst(response, behaviour.stopCourse?.(answer.stops) ?? {})) {
          answer.stop();
          answerJson(response, {});
        }
      } else if (request.method === "DELETE") {
        answers.delete(answer.id);
        response.writeHead(204, ANY_ORIGIN).end();
      } else if (url.searchParams.get("stream") === "false") {
        const { id, state, text, last } = answer;
        answerJson(response, { id, state, text, last_seq: last, usage: null, timing: null });
      } else {
        const given = String(request.headers["last-event-id"] ?? `:${url.searchParams.get("after") ?? 0}`);
        const after = Number(given.slice(given.lastIndexOf(":") + 1));
        if (answer.isEnd(answer.last) && after >= answer.last) {
          response.writeHead(204, ANY_ORIGIN).end();
        } else {
          follow(answer, after, response);
        }
      }
    } else {
      answerJson(response, { error: { code: "not_found", message: `There is no ${url.pathname}.` } }, 404);
    }
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(undefined)));
  const address = server.address();
  return {
    url: `http://127.0.0.1:${typeof address === "object" ? address?.port : port}`,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve(undefined));
        server.closeAllConnections();
      }),
  };
}

if (process.argv[1] && import.meta.url.endsWith(process.argv[1])) {
  const { url } = await startServer(Number(process.argv[2] ?? 0));
  console.log(url);
}
