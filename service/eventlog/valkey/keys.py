"""The names of keys and channels.

The keys of one answer share a hash slot, and so do those of the workers and of ended answers. A script uses the keys of
one slot only.

    <prefix>:{<answer>}:log        stream   the entries. The id is `<seq of the entry's last event>-0`. Its one field:
                                            `e`: the events, as lines of JSON
                                            `c`: a claim, with the claimer. It has a number and no events
                                            `a`: a restart and the text so far, for readers whose place is lost
    <prefix>:{<answer>}:lease      hash     the owner and notes about the answer; until the terminal event
    <prefix>:{<answer>}:watch      set      the workers that have followers of the answer and do not produce it
    <prefix>:{<answer>}            channel  `<entry before> <entry> <field> <value>`, `released`, `erased`
    <prefix>:{<answer>}:request    hash     a large request, in pieces
    <prefix>:name:<name>           hash     the answers that the name stands for (see `names`)
    {<prefix>}:workers             hash     the number of heartbeats, by worker
    {<prefix>}:running             hash     the bytes of the answers that a worker produces, by worker
    {<prefix>}:leases:<worker>     set      the answers that the worker produces; of `-`, those without a producer
    <prefix>:worker:<worker>       channel  `stop <answer> <by>`, `anew <answer>`
    <prefix>:orphans               channel  `<answer> <worker>`: the worker gave up the answer's lease
    {<prefix>}:ended               zset     ended answers, by their end in milliseconds of Unix time
    {<prefix>}:ended:bytes         hash     their lengths, by answer
    {<prefix>}:ended:total         integer  the sum of the lengths
"""

NOBODY = "-"
"""The owner of an orphan whose producer gave up its lease."""


class Keys:
    """The keys and channels with one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.workers = f"{{{prefix}}}:workers"
        self.running = f"{{{prefix}}}:running"
        self.orphans = f"{prefix}:orphans"
        self.ended = f"{{{prefix}}}:ended"
        self.ended_bytes = f"{{{prefix}}}:ended:bytes"
        self.ended_total = f"{{{prefix}}}:ended:total"
        self._channels = f"{prefix}:{{"

    def log(self, answer_id: str) -> str:
        """Return the key of the log."""
        return f"{self._prefix}:{{{answer_id}}}:log"

    def lease(self, answer_id: str) -> str:
        """Return the key of the lease."""
        return f"{self._prefix}:{{{answer_id}}}:lease"

    def watch(self, answer_id: str) -> str:
        """Return the key of the set of workers with followers."""
        return f"{self._prefix}:{{{answer_id}}}:watch"

    def channel(self, answer_id: str) -> str:
        """Return the answer's channel."""
        return f"{self._prefix}:{{{answer_id}}}"

    def request(self, answer_id: str) -> str:
        """Return the key of a large request."""
        return f"{self._prefix}:{{{answer_id}}}:request"

    def name(self, name: str) -> str:
        """Return the key of a name of answers."""
        return f"{self._prefix}:name:{name}"

    def leases(self, worker: str) -> str:
        """Return the key of a worker's index."""
        return f"{{{self._prefix}}}:leases:{worker}"

    def worker(self, worker: str) -> str:
        """Return a worker's channel."""
        return f"{self._prefix}:worker:{worker}"

    def answer_of(self, channel: str) -> str | None:
        """Return the answer whose channel this is; None if it is another channel."""
        if channel.startswith(self._channels) and channel.endswith("}"):
            return channel[len(self._channels) : -1]
        return None
