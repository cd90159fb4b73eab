"""Which answer a request joins, because it is the same as an earlier one."""

import asyncio
from contextlib import closing

from service.answer import AnswerState
from service.error_codes import TABLE
from service.errors import BadInput, UnknownAnswer
from service.eventlog import DamagedLogError, EventLog
from service.events import Delta, Failed, Start, Stopped
from service.names import Named, Same, name_of

ERASED_POLL_SECONDS = 0.25
"""Poll interval for detecting that a log was erased."""


class Joining:
    """Finds the answers that a log's names stand for."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def find(self, same: Same, owner: str) -> str | None:
        """Return the id of the answer that the request joins; None if it begins one.

        A key's answer is joined however it is. A repetition joins an answer that was not delivered, and that neither
        failed nor was stopped: the newest one that has no follower, or else the only one, since a dead connection may
        still look alive. With several that have followers, they are parallel samples, and it begins a further one.

        Raises:
            BadInput: the key was sent with another request.
            Unavailable: the log cannot be read.
        """
        if same.key is not None:
            answers = await self._log.named(name_of(owner, "key", same.key))
            if not answers:
                return None
            if answers[-1].digest != same.digest:
                raise BadInput("idempotency_key_reused", field="Idempotency-Key")
            return answers[-1].answer
        if not same.retry:
            return None
        answers = [
            named
            for named in await self._log.named(name_of(owner, "body", same.digest))
            if not named.delivered and await self._can_be_joined(named.answer)
        ]
        for named in reversed(answers):
            if not await self._log.followed(named.answer):
                return named.answer
        return answers[0].answer if len(answers) == 1 else None

    async def newest(self, chat: str, owner: str) -> Named | None:
        """Return the newest answer of the chat; None without one.

        Raises:
            Unavailable: the log cannot be read.
        """
        answers = await self._log.named(name_of(owner, "chat", chat))
        return answers[-1] if answers else None

    async def is_accepted(self, answer_id: str, seconds: float) -> bool:
        """Wait up to `seconds` until the answer has a piece or an end. Return whether it is still there.

        It is not if the upstream refused: the request that began it erases it.

        Raises:
            UnknownAnswer: the answer is there, but cannot be read.
            Unavailable: the log cannot be read.
        """
        try:
            await self._is_accepted(answer_id, seconds)
        except DamagedLogError:
            if await self._is_there(answer_id):
                raise
            return False
        except UnknownAnswer:
            return False
        return True

    async def _is_accepted(self, answer_id: str, seconds: float) -> None:
        time = asyncio.get_running_loop().time
        deadline = time() + seconds
        with closing(await self._log.open(answer_id, watch=False)) as reader:
            while not any(not isinstance(event, Start) and not _is_private(event) for event in await reader.read()):
                left = deadline - time()
                if left <= 0:
                    return
                await reader.wait(min(left, ERASED_POLL_SECONDS))
                await self._log.last(answer_id)  # A reader of an erased log may be told nothing.

    async def _is_there(self, answer_id: str) -> bool:
        try:
            await self._log.last(answer_id)
        except UnknownAnswer:
            return False
        return True

    async def was_refused(self, answer_id: str) -> bool:
        """Return whether the upstream refused the answer, which has ended, before its first piece.

        Raises:
            UnknownAnswer, Unavailable: see `EventLog.open`.
        """
        state = AnswerState()
        with closing(await self._log.open(answer_id, watch=False)) as reader:
            while events := await reader.read():
                state.advance(events)
        end = state.end
        if state.deltas or not isinstance(end, Failed):
            return False
        row = TABLE.get(end.code)
        return row is not None and row.kind == "UpstreamError"

    async def _can_be_joined(self, answer_id: str) -> bool:
        try:
            return not isinstance(await self._log.last(answer_id), Failed | Stopped)
        except UnknownAnswer:
            return False


def _is_private(event: object) -> bool:
    return isinstance(event, Delta) and event.is_private
