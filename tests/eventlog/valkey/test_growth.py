"""Whether an answer grew under a claim is noted with its first text."""

from service.eventlog import Claims, Retention, open_event_log
from service.events import Attempt, Delta, Seam, Start, new_answer_id
from tests.valkey import ValkeyServer
from tests.waiting import first


async def test_a_word_of_a_worker_that_is_cut_off_behind_it_counts_as_growth(server: ValkeyServer) -> None:
    log = open_event_log(server.url, Retention())
    answer = new_answer_id()
    (await log.create(Start(1, answer, "model"))).release()
    for grows, expected in ((False, Claims(1, 1)), (True, Claims(2, 2)), (False, Claims(3, 1))):
        lease = await first(lambda: log.claim(answer))
        assert lease.claims == expected
        await lease.append([Delta(lease.last_seq + 1, attempt=Attempt(1, 1))])
        if grows:
            seq = lease.last_seq
            await lease.append([Delta(seq + 1, seam=Seam("continued", "takeover")), Delta(seq + 2, text="on ")])
        lease.release()  # Cut off: `grew` is not called.
    await log.aclose()
