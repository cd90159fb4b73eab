export { openAnswer } from "./answer.js";
export { FolyamError } from "./errors.js";
export { PATIENCE } from "./patience.js";

/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./answer.js").AnswerOptions} AnswerOptions */
/** @typedef {import("./answer.js").Question} Question */
/** @typedef {import("./answer.js").Resumption} Resumption */
/** @typedef {import("./events.js").AnswerEvent} AnswerEvent */
/** @typedef {import("./state.js").AnswerState} AnswerState */
