/**
 * Where a request for an answer's events begins, as docs/protocol.md has it ("Following"); a pure function.
 */

const EVENT_ID = /^([0-9a-f]{32}):(0|[1-9][0-9]{0,15})$/;
const SEQ = /^[0-9]{1,16}$/;

/**
 * @param {string} text
 * @returns {{answer: string, seq: number} | null} null where it is not an event id
 */
export function parseEventId(text) {
  const [, answer, seq] = EVENT_ID.exec(text) ?? [];
  return answer === undefined ? null : { answer, seq: Number(seq) };
}

/**
 * @param {{id: string, last: number, isOver: boolean}} log
 * @param {string | undefined} header the request's Last-Event-ID
 * @param {URLSearchParams} query
 * @returns {{after: number} | {status: 204} | {error: string}} `after`: send what comes behind that seq
 */
export function placeIn({ id, last, isOver }, header, query) {
  const given = header ?? query.get("last_event_id");
  const seq = query.get("after") ?? "0";
  if (given === null && !SEQ.test(seq)) {
    return { error: "invalid_input" };
  }
  const place = given === null ? { answer: id, seq: Number(seq) } : parseEventId(given);
  if (place?.answer !== id || (place.seq > last && !isOver)) {
    return { error: "bad_last_event_id" };
  }
  return isOver && place.seq >= last ? { status: 204 } : { after: place.seq };
}
