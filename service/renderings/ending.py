"""How an answer that is not whole ends in another's protocol. No protocol shows it as whole."""

from service.errors import AnswerFailed, BadInput, FolyamError, error_object
from service.events import Failed, Stopped
from service.renderings.base import Schema


def error_of(end: Stopped | Failed) -> FolyamError:
    """Return the error of an answer's end: 410 for a stop, which no client should ask again after."""
    if isinstance(end, Failed):
        return AnswerFailed(end.code, end.message, retryable=end.retryable)
    return FolyamError("answer_stopped")


def restarted() -> FolyamError:
    """Return the error for a follower that cannot take back what it has been sent."""
    return BadInput("answer_restarted")


def error_data(error: FolyamError) -> Schema:
    """Return the error as the data of a message in a stream."""
    return {"error": error_object(error.status, error.code, error.message)}
