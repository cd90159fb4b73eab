/**
 * A fake service: docs/protocol.md over a real socket, with an endpoint for each misbehaviour.
 *
 * It is written for Node, unlike the project's other test servers, so that the package's suite needs nothing but the package:
 * `npm test` starts it beside the test runner.
 *
 *     node test/server.js [port]
 */
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { BEHAVIOURS } from "./behaviours.js";
import { ERRORS, errorBody } from "./errors.js";
import { sendEvents } from "./following.js";
import { Log } from "./log.js";
import { placeIn } from "./resuming.js";

/** @import { IncomingMessage, ServerResponse } from "node:http" */
/** @import { Behaviour, Course } from "./behaviours.js" */

/**
 * CORS headers, because suites run in a page of another origin. Connections are closed after each response: on a reused one,
 * Chromium itself repeats a request that is cut before its status, even a POST.
 */
const ANY_ORIGIN = {
  Connection: "close",
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Headers": "*",
  "Access-Control-Allow-Methods": "*",
  "Access-Control-Expose-Headers": "*",
  "Access-Control-Max-Age": "600",
};

/** An answer's log, and counts of the requests for it. */
class Answer {
  connections = 0;
  open = 0;
  mostOpen = 0;
  stops = 0;

  /** @param {Behaviour} behaviour @param {string} run */
  constructor(behaviour, run) {
    this.behaviour = behaviour;
    this.run = run;
    this.log = new Log(behaviour);
  }
}

/**
 * @param {ServerResponse} response
 * @param {number} status
 * @param {unknown} [value] as JSON
 * @param {Record<string, string>} [headers]
 */
function send(response, status, value, headers = {}) {
  const type = value === undefined ? {} : { "Content-Type": "application/json" };
  response.writeHead(status, { ...ANY_ORIGIN, "Cache-Control": "no-store", ...type, ...headers });
  response.end(value === undefined ? undefined : JSON.stringify(value));
}

/** @param {ServerResponse} response @param {string} code @param {string} [retryAfter] */
function sendError(response, code, retryAfter) {
  const body = errorBody(code, String(response.getHeader("X-Request-Id")));
  const headers = retryAfter === undefined ? {} : { "Retry-After": retryAfter };
  send(response, ERRORS[code]?.status ?? 500, body, headers);
}

/** @param {ServerResponse} response @param {Course} course @returns {boolean} whether that was all */
function misbehaveFirst(response, course) {
  if (course.hangUpFirst) {
    response.socket?.destroy();
    return true;
  }
  if (course.noStatus) {
    return true;
  }
  if (course.error) {
    sendError(response, course.error, course.retryAfter);
    return true;
  }
  if (course.status !== undefined) {
    const retryAfter = course.retryAfter === undefined ? {} : { "Retry-After": course.retryAfter };
    response.writeHead(course.status, { ...ANY_ORIGIN, "Content-Type": "text/html", ...retryAfter });
    response.end(course.page);
    return true;
  }
  return false;
}

/** @param {Answer} answer @param {number} after @param {ServerResponse} response */
function follow(answer, after, response) {
  answer.connections += 1;
  const { behaviour, log } = answer;
  const course = behaviour.course?.(answer.connections) ?? {};
  if (misbehaveFirst(response, course)) {
    return;
  }
  response.writeHead(200, {
    ...ANY_ORIGIN,
    "Content-Type": "text/event-stream",
    ...(!behaviour.noAnswerHeader && { "X-Answer-Id": log.id }),
    Location: `/answers/${log.id}`,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
  });
  response.flushHeaders();
  answer.open += 1;
  answer.mostOpen = Math.max(answer.mostOpen, answer.open);
  response.on("close", () => {
    answer.open -= 1;
  });
  sendEvents(log, after, response, behaviour, course);
}

/** `GET /answers/<id>` as a stream. @param {Answer} answer @param {URL} url @param {IncomingMessage} request @param {ServerResponse} response */
function resume(answer, url, request, response) {
  const { log } = answer;
  const last = log.seqOf(log.last);
  const place = placeIn(
    { id: log.id, isOver: log.isOver, last },
    request.headers["last-event-id"]?.toString(),
    url.searchParams,
  );
  if ("error" in place) {
    sendError(response, place.error);
  } else if ("status" in place) {
    send(response, place.status);
  } else {
    follow(answer, log.placeOf(place.after), response);
  }
}

/** @param {IncomingMessage} request */
async function read(request) {
  let body = "";
  for await (const chunk of request.setEncoding("utf8")) {
    body += chunk;
  }
  return body;
}

class Service {
  /** @type {Map<string, Answer>} */
  #answers = new Map();
  /** How often each question was asked. @type {Map<string, number>} */
  #questions = new Map();
  /** By Idempotency-Key. @type {Map<string, Answer>} */
  #keys = new Map();
  /** The keys that each question was sent with. @type {Map<string, Set<string>>} */
  #sent = new Map();

  /** @param {IncomingMessage} request @param {ServerResponse} response */
  async respond(request, response) {
    response.setHeader("X-Request-Id", randomBytes(8).toString("hex"));
    const url = new URL(request.url ?? "/", "http://test");
    const [, name = "", ...path] = url.pathname.split("/");
    const behaviour = BEHAVIOURS[name];
    if (request.method === "OPTIONS") {
      send(response, 204);
    } else if (name === "report") {
      send(response, 200, this.#report(url.searchParams.get("run") ?? ""));
    } else if (behaviour && request.method === "POST" && path[0] === "generate") {
      const key = request.headers["idempotency-key"]?.toString() ?? "";
      this.#generate(JSON.parse(await read(request)).query, key, behaviour, response);
    } else if (behaviour && path[0] === "answers") {
      this.#answer(path, url, request, response);
    } else {
      sendError(response, "not_found");
    }
  }

  /** @param {string} run */
  #report(run) {
    const answers = [...this.#answers.values()].filter((answer) => answer.run === run);
    return {
      questions: this.#questions.get(run) ?? 0,
      keys: this.#sent.get(run)?.size ?? 0,
      answers: answers.map(({ connections, mostOpen, stops, log }) => {
        const { id, text, state } = log.whole();
        return { id, connections, mostOpen, stops, text, state };
      }),
    };
  }

  /** @param {string} query @param {string} key @param {Behaviour} behaviour @param {ServerResponse} response */
  #generate(query, key, behaviour, response) {
    const asked = (this.#questions.get(query) ?? 0) + 1;
    this.#questions.set(query, asked);
    this.#sent.set(query, (this.#sent.get(query) ?? new Set()).add(key));
    const course = behaviour.questionCourse?.(asked) ?? {};
    if (course.beginsUnheard) {
      this.#begin(query, key, behaviour);
    }
    if (!misbehaveFirst(response, course)) {
      follow(this.#keys.get(key) ?? this.#begin(query, key, behaviour), 0, response);
    }
  }

  /** @param {string} query @param {string} key @param {Behaviour} behaviour */
  #begin(query, key, behaviour) {
    const answer = new Answer(behaviour, query);
    this.#answers.set(answer.log.id, answer);
    if (key !== "") {
      this.#keys.set(key, answer);
    }
    return answer;
  }

  /** @param {string[]} path @param {URL} url @param {IncomingMessage} request @param {ServerResponse} response */
  #answer([, id = "", verb], url, request, response) {
    const answer = this.#answers.get(id);
    if (!answer) {
      sendError(response, "unknown_answer");
    } else if (verb === "stop") {
      answer.stops += 1;
      if (!misbehaveFirst(response, answer.behaviour.stopCourse?.(answer.stops) ?? {})) {
        answer.log.stop();
        send(response, 200, answer.log.whole());
      }
    } else if (request.method === "DELETE") {
      this.#answers.delete(id);
      send(response, 204);
    } else if (url.searchParams.get("stream") === "false") {
      send(response, 200, answer.log.whole());
    } else {
      resume(answer, url, request, response);
    }
  }
}

/** Start the server. @param {number} [port] */
export async function startServer(port = 0) {
  const service = new Service();
  const server = createServer((request, response) => service.respond(request, response));
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
