import { meaningOf } from "./finish-reasons.js";
import { formatNumber, reasonFor, say } from "./words.js";

/** @import { AnswerState } from "../client/state.js" */

/**
 * Return a sentence about an answer's phase.
 *
 * @param {Pick<AnswerState, "phase" | "waitingFor" | "text" | "reasoning" | "toolCalls" | "end" | "failure">} state
 */
export function sentenceOf({ phase, waitingFor, text, reasoning, toolCalls, end, failure }) {
  if (waitingFor) {
    const seconds = formatNumber(Math.max(1, Math.ceil(((waitingFor.untilMs ?? 0) - Date.now()) / 1000)));
    switch (waitingFor.what) {
      case "network":
        return say("waitingForNetwork");
      case "service":
        return say("waitingForService", { seconds });
      case "retry":
        return say("waitingForRetry", { seconds });
    }
  }
  switch (phase) {
    case "failed":
      return failure ? say(failure.of === "answer" ? "failed" : "lost", { reason: reasonFor(failure) }) : "";
    case "stopped":
      return say(
        end?.type === "stopped" && end.by === "unwatched"
          ? "stoppedByUnwatched"
          : end?.type === "stopped" && end.by === "shutdown"
            ? "stoppedByShutdown"
            : "stoppedByUser",
      );
    case "done":
      return [
        text === "" && reasoning === "" && toolCalls.length === 0 ? say("saidNothing") : "",
        sentenceOfReason(end),
      ]
        .filter(Boolean)
        .join(" ");
    default:
      return say(phase);
  }
}

/** @param {AnswerState["end"]} end */
function sentenceOfReason(end) {
  const reason = end?.type === "done" && typeof end.finish_reason === "string" ? end.finish_reason : "";
  switch (meaningOf(reason)) {
    case "finished":
      return "";
    case "length":
      return say("cutByLength");
    case "filtered":
      return say("filtered");
    case "unknown":
      return say("endedFor", { reason });
  }
}
