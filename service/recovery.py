"""How an answer goes on whose producer died (a take-over), or whose upstream broke off (a break).

Both are mended in the same way: the log is folded, and the upstream is asked to go on from the text so far, or anew, or
not at all. A break is mended by the producer itself, and more carefully: a restart costs the whole answer again, and so
it needs the setting.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from service.answer import AnswerState, Attached, Said
from service.errors import UpstreamError
from service.events import Attempt, Run
from service.request import may_be_continued

Recovery = Literal["continue", "restart", "fail"]
"""Ask the upstream to go on from the text so far, or anew, or not at all."""

How = Literal["attach", "continue", "restart", "fail"]
"""What is done: besides, the upstream's own run is followed again, where it keeps one. Nothing is paid twice then."""

TAKEOVER = "takeover"
"""The reason of a seam that no failure of the upstream made."""

ATTEMPTS_WITHOUT_PROGRESS = 6
"""Limit on attempts in a row, by any workers, that brought nothing new. Their pauses take some ten seconds."""
FOLLOWING_ATTEMPTS = 3
"""Attempts in a row to reach a run before its text is continued instead. They take two to three seconds."""
CUT_FOLLOWING_ATTEMPTS = 5
"""The same where the run is reached, and breaks off before anything new comes."""
ATTEMPTS = 20
"""Limit on attempts in all, by any workers. A question is paid for again with each, so neither an upstream that breaks
off after every word nor an answer that kills each worker after its first words is asked for ever."""
RESTARTS = 3
"""Limit on an answer's restarts after breaks."""
PAUSE_SECONDS = (0.1, 0.4)
"""Bounds of the random pause before the first attempt. It doubles with each further one without progress."""
MAX_PAUSE_SECONDS = 4.0
"""Limit on the pause, also where the upstream asks for a longer one."""

NONE_BEFORE = Attempt()
"""There was no attempt before."""

BREAKS = frozenset({"cut", "truncated", "malformed", "silence_timeout", "error"})
"""The reasons of an upstream's failure in the middle of an answer."""


@dataclass(frozen=True, slots=True)
class Mending:
    """What is done behind a seam."""

    how: How
    why: str
    """`takeover`, or the reason of the failure, as the metrics have it."""
    said: Said | None = None
    """What the upstream goes on from; None where it is asked anew."""
    attached: Attached | None = None
    """The run that is followed again."""
    run: Run | None = None
    """The run that a dead worker followed. It is stopped if it is not followed again."""
    discards: bool = True
    """Whether a restart has something to take back from followers."""

    @property
    def has_seam(self) -> bool:
        """Whether a seam comes before the next delta."""
        return self.how in ("attach", "continue")

    @property
    def has_words(self) -> bool:
        """Whether there is something before the seam."""
        return self.said is not None or (self.attached is not None and any(self.attached[1:]))


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings allow: `chosen` is `FOLYAM_RECOVERY`, `continues` whether an upstream can continue a text."""

    chosen: Recovery | None
    continues: bool
    keeps: Callable[[Run], bool] = lambda _: False
    """Whether an upstream keeps the run."""
    keeps_runs: bool = False
    """Whether an upstream keeps its runs at all."""

    @property
    def may_mend(self) -> bool:
        """Whether a break may be mended at all."""
        return self.chosen == "restart" or (self.chosen != "fail" and (self.continues or self.keeps_runs))

    def after_death(self, state: AnswerState, *, all_known: bool, attaches: bool = True) -> Mending:
        """Return how a take-over goes on.

        `all_known` is whether this version understands all of the log's events, `attaches` whether the answer's run may
        be there still.
        """
        if attaches and self.chosen != "fail" and all_known and (attached := self._attached(state)):
            return Mending("attach", TAKEOVER, attached=attached)
        how: Recovery = self.chosen or ("continue" if self.continues else "restart")
        if how == "continue" and (said := self._said(state, all_known=all_known)):
            return Mending("continue", TAKEOVER, said)
        # A restart takes back from the followers what cannot be handed back to a model, and events that only a newer
        # version knows.
        return Mending("fail" if how == "fail" else "restart", TAKEOVER)

    def after_break(self, state: AnswerState, why: str, *, attaches: bool = True, continues: bool = True) -> Mending:
        """Return how an answer goes on whose upstream broke off.

        `attaches` is whether its run may be there still, `continues` whether a continuation may succeed. A restart,
        which is paid for again, comes last.
        """
        if attaches and (attached := self._attached(state)):
            return Mending("attach", why, attached=attached)
        if continues and self.can_continue(state):
            return Mending("continue", why, state.said)
        if self.chosen == "restart":
            return Mending("restart", why, discards=bool(state.deltas) or state.run is not None)
        return Mending("fail", why)

    def can_continue(self, state: AnswerState) -> bool:
        """Whether an upstream may be asked to go on from the answer so far."""
        return self.chosen != "fail" and self._said(state, all_known=True) is not None

    def _attached(self, state: AnswerState) -> Attached | None:
        attached = state.attached
        return attached if attached is not None and self.keeps(attached.run) else None

    def _said(self, state: AnswerState, *, all_known: bool) -> Said | None:
        if not (self.continues and all_known) or state.start is None:
            return None
        asked = state.start.asked()
        return state.said if asked is not None and may_be_continued(asked) else None


def is_given_up(made: Attempt) -> bool:
    """Return whether there have been so many attempts that a worker that takes the answer over makes no further one."""
    return made.number >= ATTEMPTS or made.without_progress >= ATTEMPTS_WITHOUT_PROGRESS


class Recoverer:
    """Decides for one answer how its breaks are mended, and how often.

    The log has each attempt before it is made, so that the counts survive the worker: an upstream that falls silent in
    each continuation would else be asked for as long as workers come and go.
    """

    def __init__(
        self,
        policy: Policy,
        state: Callable[[], Awaitable[AnswerState]],
        *,
        taken_over: Mending | None = None,
        before: Attempt = NONE_BEFORE,
    ) -> None:
        """`state` folds the answer's log. `taken_over` is how the answer goes on whose worker died.

        `before` is the last attempt of that worker.
        """
        self._policy = policy
        self._why = taken_over.why if taken_over else ""
        self.state = state
        """Fold the answer's log."""
        self._last = taken_over.how if taken_over else None
        self._gone: set[tuple[str, str]] = set()  # ids and addresses of runs that cannot be followed again
        self._continues = True
        self.made = before if taken_over is None else _next(before)
        """The further request that is to be made, or was made last."""

    @property
    def may_mend(self) -> bool:
        """Whether a break may be mended at all."""
        return self._policy.may_mend

    @property
    def attempt(self) -> int:
        """The number of attempts in a row without progress before this one."""
        return max(self.made.without_progress - 1, 0)

    async def mend(
        self, error: UpstreamError, *, progress: bool, run_ended: bool = False, reached: bool = True
    ) -> Mending | None:
        """Return what to do after a failure; None if the answer fails.

        `progress` is whether anything new had come, `reached` whether the upstream had accepted the request. A run that
        ended, or that the upstream does not give out, is not followed again, and the text is continued. A text that no
        upstream continues is not handed back again, and restarted if the setting says so.

        Raises:
            Unavailable: the log cannot be read.
        """
        if progress or not self._why:
            self.made = replace(self.made, without_progress=0)
            self._why = error.reason
        self.made = _next(self.made)
        if self.made.number > ATTEMPTS or (progress and error.reason not in BREAKS) or not self.may_mend:
            return None
        state = await self.state()
        is_over = self.made.without_progress > self._most_attempts(state, reached=reached)
        is_refused = not progress and not error.retryable
        is_gone = run_ended
        if run_ended and self._last == "attach":
            self.made = replace(self.made, without_progress=1)  # A continuation has attempts of its own.
            is_over = False
        if (is_over or is_refused) and not run_ended:
            # It may be the run that is refused, or the continuation, and not the question.
            is_gone = self._last == "attach"
            if is_gone or (self._last == "continue" and self._policy.chosen == "restart"):
                self._continues = self._continues and is_gone
                is_over = is_refused = False
                self.made = replace(self.made, without_progress=1)
        if is_over or is_refused:
            return None
        mending = self._after_break(state, is_gone=is_gone, is_lost=is_gone and not run_ended)
        self._last = mending.how
        if mending.how == "restart" and mending.discards:
            self.made = replace(self.made, restarts=self.made.restarts + 1)
        return None if mending.how == "fail" or self.made.restarts > RESTARTS else mending

    def _most_attempts(self, state: AnswerState, *, reached: bool) -> int:
        """Return the limit on attempts in a row without progress. It is lower for a run whose text can go on."""
        if self._last == "attach" and self._continues and self._policy.can_continue(state):
            return CUT_FOLLOWING_ATTEMPTS if reached else FOLLOWING_ATTEMPTS
        return ATTEMPTS_WITHOUT_PROGRESS

    def _after_break(self, state: AnswerState, *, is_gone: bool, is_lost: bool) -> Mending:
        run = (state.run.id, state.run.at) if state.run is not None else None
        if is_gone and run is not None:
            self._gone.add(run)
        if is_lost and self._why == TAKEOVER:
            return self._policy.after_death(state, all_known=True, attaches=False)
        return self._policy.after_break(state, self._why, attaches=run not in self._gone, continues=self._continues)

    def pause(self, error: UpstreamError) -> float:
        """Return the seconds to wait before the next attempt."""
        pause = random.uniform(*PAUSE_SECONDS)  # noqa: S311 (dispersion, not a secret)
        seconds = pause * 2.0 ** (self.made.without_progress - 1)
        return min(max(seconds, float(error.retry_after or 0)), MAX_PAUSE_SECONDS)


def _next(made: Attempt) -> Attempt:
    return replace(made, number=made.number + 1, without_progress=made.without_progress + 1)
