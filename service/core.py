"""What a worker is made of, put together from the settings."""

import asyncio
from collections.abc import Callable

from service.config import Settings
from service.errors import Unavailable, UnknownAnswer
from service.eventlog import Retention, open_event_log
from service.events import Start, StoppedBy, Terminal
from service.follower import Follower
from service.keys import Caller
from service.producer import Limits
from service.renderings import RENDERINGS, Rendering
from service.supervisor import Bounds, Supervisor
from service.telemetry import metrics
from service.upstream.endpoint import Endpoint, TimeOuts
from service.upstream.stream import Upstream

STOP_SECONDS = 5.0
"""How long a stop waits for the terminal event, which comes within a second unless the producer hangs."""
LOOK_SECONDS = 0.25
"""How often a stop looks whether the answer still has a producer."""
LATE_SECONDS = 2.0
"""How long a follower may stay at least, however late it came: a request is served even as its worker leaves."""


class Core:
    """The log, the upstream and the producers of one worker. Made and closed on its event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.log = open_event_log(
            settings.log_url,
            Retention(settings.retention_seconds, settings.retention_answers, settings.retention_bytes),
        )
        self.upstream = Upstream(
            _endpoints(settings),
            TimeOuts(
                settings.connect_seconds,
                settings.status_seconds,
                settings.first_chunk_seconds,
                settings.silence_seconds,
            ),
            retries=settings.retries,
        )
        self.supervisor = Supervisor(
            self.log,
            self.upstream,
            Limits(settings.answer_seconds, settings.max_answer_bytes, settings.unwatched_seconds),
            Bounds(settings.max_answers, settings.max_answers_per_client),
            recovery=settings.recovery,
            models=settings.allowed_models,
        )
        metrics.begin(settings.allowed_models, {rendering.name for _, rendering in RENDERINGS})
        metrics.bounds(
            streams=settings.max_answers, followers=settings.max_followers, log_bytes=settings.retention_bytes
        )
        self.followers = 0
        self._drain: asyncio.Task[None] | None = None

    @property
    def leaving(self) -> bool:
        """Whether this worker is to stop, and should be sent nothing new."""
        return self._drain is not None

    @property
    def needs_replacing(self) -> bool:
        """Whether only a new process can serve: the directory of the logs was removed or replaced."""
        return self.log.lost()

    def _has_left(self, came_at: float) -> bool:
        # Whether answers are left to others, so that a follower should go there too.
        left = self._drain is not None and self._drain.done()
        return left and asyncio.get_running_loop().time() - came_at >= LATE_SECONDS

    def leave(self) -> None:
        """Let running answers go on for `drain_seconds`, then leave them to other workers. Returns at once."""
        if self._drain is None:
            self._drain = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        begun_at = asyncio.get_running_loop().time()
        await self.supervisor.drain(self.settings.drain_seconds)
        # Followers of other workers' answers may have as long.
        await asyncio.sleep(begun_at + self.settings.drain_seconds - asyncio.get_running_loop().time())

    async def admit(self, caller: Caller, answer_id: str) -> None:
        """Do nothing if the caller may have the answer: follow it, read it, stop it, erase it.

        Raises:
            UnknownAnswer: there is no such answer, or it is not the caller's. These are told apart by nobody.
        """
        if caller.anybody:
            return
        reader = await self.log.open(answer_id, watch=False)
        try:
            events = await reader.read()
        finally:
            reader.close()
        if not (events and isinstance(events[0], Start) and caller.owns(answer_id, events[0].owner)):
            raise UnknownAnswer

    async def follow(
        self, answer_id: str, after: int, rendering: Rendering, on_first_chunk: Callable[[], None] | None = None
    ) -> Follower:
        """Return a follower of the answer, placed behind the event `after`.

        Raises:
            UnknownAnswer: there is no such answer.
            Unavailable: there are as many followers as there may be.
        """
        if self.followers >= self.settings.max_followers:
            raise Unavailable("too_many_followers", "Too many answers are being read. Try again in a moment.")
        reader = await self.log.open(answer_id, after)
        self.followers += 1
        came_at = asyncio.get_running_loop().time()
        return Follower(
            reader,
            rendering,
            heartbeat_seconds=self.settings.heartbeat_seconds,
            on_orphan=self.supervisor.adopt,
            has_left=lambda: self._has_left(came_at),
            on_first_chunk=on_first_chunk,
            on_close=self._follower_left,
        )

    def _follower_left(self) -> None:
        self.followers -= 1

    async def stop(self, answer_id: str, by: StoppedBy = "user") -> None:
        """Stop the answer, whichever worker produces it; return once its terminal event is in the log.

        Raises:
            UnknownAnswer: there is no such answer.
            Unavailable: the producer did not end it in time.
        """
        reader = await self.log.open(answer_id, watch=False)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                if isinstance(await self.log.last(answer_id), Terminal):
                    return
                if not self.supervisor.stop(answer_id, by):
                    await self.log.request_stop(answer_id, by)
                while True:
                    for event in await reader.read():
                        if isinstance(event, Terminal):
                            return
                    if reader.orphaned() and not isinstance(await self.log.last(answer_id), Terminal):
                        self.supervisor.adopt(answer_id)
                    await reader.wait(LOOK_SECONDS)
        except TimeoutError:
            raise Unavailable("stop_pending", "The answer will stop, but has not stopped yet.") from None
        finally:
            reader.close()

    async def aclose(self) -> None:
        """Leave what is unfinished to other workers, and close everything."""
        if self._drain is not None:
            self._drain.cancel()
        await self.supervisor.aclose()
        await self.upstream.aclose()
        await self.log.aclose()


def _endpoints(settings: Settings) -> list[Endpoint]:
    endpoints = [
        Endpoint(
            base_url=settings.openai_base_url,
            # The openai package refuses to start without a key; a local server takes any.
            api_key=settings.openai_api_key.get_secret_value() or "none",
            headers=_headers(settings),
            continuation=settings.continuation,
            system_prompt=settings.system_prompt,
        )
    ]
    if settings.fallback_base_url:
        endpoints.append(
            Endpoint(
                base_url=settings.fallback_base_url,
                api_key=settings.fallback_api_key.get_secret_value() or "none",
                model=settings.fallback_model,
                system_prompt=settings.system_prompt,
            )
        )
    return endpoints


def _headers(settings: Settings) -> tuple[tuple[str, str], ...]:
    # The first endpoint's only: they may hold a credential, or name an account that the fallback does not know.
    payers = (("OpenAI-Organization", settings.openai_org_id), ("OpenAI-Project", settings.openai_project_id))
    return (*(header for header in payers if header[1]), *settings.openai_custom_headers)
