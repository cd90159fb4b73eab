/**
 * The errors that the fake service sends, with statuses and messages of docs/protocol/errors.json.
 *
 * @type {Readonly<Record<string, {status: number, message: string, field?: string}>>}
 */
export const ERRORS = {
  bad_last_event_id: {
    status: 400,
    message: "Last-Event-ID must be <answer id>:<seq>.",
    field: "Last-Event-ID",
  },
  draining: { status: 503, message: "The service is restarting. Try again in a moment." },
  empty_query: { status: 422, message: "query must not be empty.", field: "query" },
  invalid_input: {
    status: 422,
    message: "after: Input should be a valid integer, unable to parse string as an integer.",
    field: "after",
  },
  not_found: { status: 404, message: "There is nothing at this address." },
  service_timeout: { status: 504, message: "The service did not answer in time. Please try again." },
  service_unreachable: {
    status: 502,
    message: "The service is not running or just restarting. Please try again in a moment.",
  },
  stop_pending: { status: 503, message: "The answer will stop, but has not stopped yet." },
  too_many_answers_of_yours: {
    status: 429,
    message: "You have too many answers under way. Let one of them end first.",
  },
  unknown_answer: { status: 404, message: "There is no such answer, or it has expired." },
  upstream_credentials: { status: 502, message: "The model's server refused this service's credentials." },
  upstream_rate_limited: { status: 429, message: "The model's server takes no more requests for now." },
  upstream_timeout: { status: 504, message: "The model's server did not answer in time." },
  upstream_unavailable: { status: 502, message: "The model's server cannot answer now." },
};

/** @type {Record<number, string>} */
const TYPES = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  429: "rate_limit_error",
};

/**
 * An error's body.
 *
 * @param {string} code
 * @param {string} requestId
 */
export function errorBody(code, requestId) {
  const error = ERRORS[code];
  if (!error) {
    throw new Error(`test/errors.js has no ${code}.`);
  }
  const { status, message, field } = error;
  const type = status >= 500 ? "server_error" : (TYPES[status] ?? "invalid_request_error");
  return {
    error: { message, type, param: field ?? null, code, ...(field && { field }), request_id: requestId },
  };
}
