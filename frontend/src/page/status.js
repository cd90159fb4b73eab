import { formatNumber, reasonFor, say } from "./words.js";

/** @import { AnswerState } from "../client/state.js" */

/**
 * Return a sentence about an answer's phase.
 *
 * @param {Pick<AnswerState, "phase" | "waitingFor" | "end" | "failure">} state
 */
export function sentenceOf({ phase, waitingFor, end, failure }) {
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
      if (end?.type === "done" && end.finish_reason === "length") {
        return say("cutByLength");
      }
      return end?.type === "done" && end.finish_reason === "content_filter" ? say("filtered") : "";
    default:
      return say(phase);
  }
}
