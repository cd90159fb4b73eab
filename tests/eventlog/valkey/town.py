"""Workers with producers and clients, in one process, that do with a log what the layers above do with it.

town = Town(server.url)
first, second = town.worker(), town.worker()
answer = await first.ask(words=300)
client = second.follow(answer)
first.kill()
await client.ended()
town.check()
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence

from service.errors import Unavailable, UnknownAnswer
from service.eventlog import DamagedLogError, LeaseLostError, Retention
from service.eventlog.valkey.address import parse_address
from service.eventlog.valkey.lease import ValkeyLease
from service.eventlog.valkey.log import ValkeyEventLog
from service.events import Delta, Done, Event, Restart, Start, Terminal, Timing, new_answer_id
from tests.waiting import first

WAIT_SECONDS = 0.5
TEND_SECONDS = 0.25


class Text:
    """The text that events make, and what they have to hold to."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.seq = 0
        self.restarts = 0
        self.has_ended = False

    def advance(self, events: Sequence[Event]) -> None:
        for event in events:
            assert not self.has_ended, "an event behind the end"
            assert event.seq > self.seq, "an event twice"
            self.seq = event.seq
            if isinstance(event, Restart):
                self.words.clear()
                self.restarts += 1
            elif isinstance(event, Delta) and event.text:
                self.words += event.text.split()
            elif isinstance(event, Terminal):
                self.has_ended = True


class Worker:
    """One worker: its log, its producers and its clients."""

    def __init__(self, town: "Town", url: str) -> None:
        self.log = ValkeyEventLog(parse_address(url), Retention())
        self.lost = 0
        """Leases that others have taken."""
        self.given_anew = 0
        self.leases: list[ValkeyLease] = []
        self._town = town
        self._tasks = {asyncio.create_task(self._tend())}
        self._adopting: set[str] = set()

    async def ask(self, words: int, *, pause: float = 0.005) -> str:
        answer = new_answer_id()
        lease = await self.log.create(Start(1, answer, "model"))
        self._town.answers[answer] = words
        self._spawn(self._produce(lease, 0, pause))
        return answer

    def follow(self, answer: str, *, rests: float = 0.0) -> "Client":
        client = Client(self._town, answer, self, rests)
        self._town.clients.append(client)
        return client

    def kill(self) -> None:
        """Die, with nothing sent."""
        self._town.workers.remove(self)
        for task in self._tasks:
            task.cancel()
        self.log._heartbeat._task.cancel()
        connection = self.log._store.connection
        connection._keeper.cancel()
        if connection._pipeline is not None:
            connection._pipeline.abort("killed")

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.log.aclose()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _produce(self, lease: ValkeyLease, said: int, pause: float = 0.005) -> None:
        """Say the words w1, w2, …, as many as the town has noted."""
        self.leases.append(lease)
        words = self._town.answers[lease.answer_id]
        try:
            while True:
                if lease.anew_requested():
                    await lease.renew()
                    text = "".join(f"w{number} " for number in range(1, said + 1))
                    seq = lease.last_seq + 1
                    await lease.append([Restart(seq), Delta(seq + 1, text=text)], anew=True)
                    self.given_anew += 1
                if said == words:
                    await lease.append([Done(lease.last_seq + 1, "stop", None, Timing(0.1, 0.2))])
                    return
                await lease.append([Delta(lease.last_seq + 1, text=f"w{said + 1} ")])
                said += 1
                await asyncio.sleep(pause)
        except LeaseLostError:
            self.lost += 1
        except Unavailable:
            pass
        finally:
            lease.release()

    async def _tend(self) -> None:
        while True:
            with contextlib.suppress(Unavailable):
                await self.log.tend(self.adopt)
            await asyncio.sleep(TEND_SECONDS)

    def adopt(self, answer: str) -> None:
        if answer not in self._adopting:
            self._adopting.add(answer)
            self._spawn(self._adopt(answer))

    async def _adopt(self, answer: str) -> None:
        try:
            lease = await self.log.claim(answer)
            if lease is None:
                return
            self._town.take_overs += 1
            text = await self.read(answer)
            self._spawn(self._produce(lease, len(text.words)))
        except (Unavailable, UnknownAnswer):
            pass
        finally:
            self._adopting.discard(answer)

    async def read(self, answer: str) -> Text:
        text = Text()
        with contextlib.closing(await self.log.open(answer, watch=False)) as reader:
            while events := await reader.read():
                text.advance(events)
        return text


class Client:
    """A client that follows an answer through one worker. When that dies, it rests, and resumes through another."""

    def __init__(self, town: "Town", answer: str, worker: Worker, rests: float) -> None:
        self.answer = answer
        self.text = Text()
        self.is_refused = False
        """Whether the answer was unknown when it came back."""
        self.longest_pause = 0.0
        self._town = town
        self._worker = worker
        self._rests = rests
        self._task = asyncio.create_task(self._follow())

    async def ended(self, seconds: float = 60.0) -> None:
        """Wait for the end, whatever it is."""
        async with asyncio.timeout(seconds):
            await self._task

    async def _follow(self) -> None:
        while not self.text.has_ended:
            try:
                await self._follow_once()
            except DamagedLogError:
                await asyncio.sleep(0.1)
            except UnknownAnswer:
                self.is_refused = True
                return
            except Unavailable:
                await asyncio.sleep(0.1)
            if self._worker not in self._town.workers:
                await asyncio.sleep(self._rests)
                self._worker = self._town.workers[0]

    async def _follow_once(self) -> None:
        clock = asyncio.get_running_loop().time
        heard_at = clock()
        try:
            reader = await self._worker.log.open(self.answer, self.text.seq)
        except DamagedLogError:
            raise UnknownAnswer from None
        with contextlib.closing(reader):
            while not self.text.has_ended and self._worker in self._town.workers:
                events = await reader.read()
                self.text.advance(events)
                if events:
                    self.longest_pause = max(self.longest_pause, clock() - heard_at)
                    heard_at = clock()
                else:
                    if reader.at_end:
                        raise AssertionError("the end without an end")
                    await reader.wait(WAIT_SECONDS, self._push)
                    if reader.orphaned():
                        self._worker.adopt(self.answer)

    def _push(self, events: Sequence[Event]) -> bool:
        self.text.advance(events)
        return not self.text.has_ended


class Town:
    """All workers and clients."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, int] = {}
        self.workers: list[Worker] = []
        self.clients: list[Client] = []
        self.take_overs = 0

    def worker(self, url: str | None = None) -> Worker:
        worker = Worker(self, url or self.url)
        self.workers.append(worker)
        return worker

    async def two_workers(self, *, words: int, pause: float = 0.005) -> tuple[Worker, Worker]:
        """Start two workers. The first one produces five answers, each of which has a client at both."""
        first, second = self.worker(), self.worker()
        for _ in range(5):
            answer = await first.ask(words, pause=pause)
            first.follow(answer)
            second.follow(answer)
        return first, second

    def put_back(self) -> int:
        return sum(lease.put_back for worker in self.workers for lease in worker.leases)

    def given_anew(self) -> int:
        return sum(worker.given_anew for worker in self.workers)

    async def ended(self) -> None:
        """Wait until each client has its end, and check that its text is the log's."""
        for client in self.clients:
            await client.ended()
        for client in self.clients:
            if client.is_refused:
                continue
            whole = [f"w{number}" for number in range(1, self.answers[client.answer] + 1)]
            assert client.text.words == whole
            with contextlib.suppress(UnknownAnswer):  # The server has forgotten all of it.
                text = await self._logged(client.answer)
                assert text.words == whole

    async def _logged(self, answer: str) -> Text:
        """Return the log's text, with its end. The producer's worker may hear of it later than others' clients."""

        async def whole() -> Text | None:
            text = await self.workers[0].read(answer)
            return text if text.has_ended else None

        return await first(whole)

    async def aclose(self) -> None:
        for client in self.clients:
            client._task.cancel()
        await asyncio.gather(*(client._task for client in self.clients), return_exceptions=True)
        for worker in list(self.workers):
            await worker.aclose()
