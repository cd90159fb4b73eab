"""Every metric: its name, help text, labels and buckets. No label holds a user, a key or an id.

`own_slot.claim` decides which files they are kept in, and comes before the import of this module.
Only this package changes them: `metrics` and `answer_metrics` have a verb for each event.
"""

from prometheus_client import Counter, Gauge, Histogram

from service import __version__
from service.telemetry import own_slot

ENDPOINTS = ("primary", "fallback")
"""The upstreams, in the order in which they are asked."""
STOPPED_BY = ("user", "unwatched", "shutdown")
"""The causes of a stop."""
OUTCOMES = ("done", "empty", "unknown", "stopped", "failed")
"""The outcomes of an ended answer, by which two metrics are labelled. `empty` and `unknown` are `done`: without a word,
or with an unknown finish reason."""


def _doubling(first: float, last: float) -> tuple[float, ...]:
    buckets = [first]
    while buckets[-1] < last:
        buckets.append(round(buckets[-1] * 2, 6))
    return tuple(buckets)


FIRST_CHUNK = Histogram(
    "folyam_time_to_first_chunk_seconds",
    "Time from an answer's request to the first chunk sent to its client.",
    ["model"],
    buckets=_doubling(0.01, 81.92),
)
UPSTREAM_FIRST_CHUNK = Histogram(
    "folyam_upstream_time_to_first_chunk_seconds",
    "Time from the request to the upstream to its first chunk.",
    ["model"],
    buckets=_doubling(0.01, 81.92),
)
DURATION = Histogram(
    "folyam_stream_duration_seconds",
    "Time from an answer's request to its terminal event.",
    ["model", "outcome"],
    buckets=_doubling(0.01, 655.36),
)
BETWEEN_CHUNKS = Histogram(
    "folyam_time_between_chunks_seconds",
    "Time between two arrivals of chunks from the upstream.",
    ["model"],
    buckets=_doubling(0.0025, 10.24),
)
TIME_PER_TOKEN = Histogram(
    "folyam_time_per_output_token_seconds",
    "Time from an upstream's first chunk to its last, divided by the tokens after the first.",
    ["model", "endpoint"],
    buckets=_doubling(0.00125, 2.56),
)
IN_FLIGHT = Gauge("folyam_streams_in_flight", "Answers being generated.", multiprocess_mode="livesum")
FOLLOWERS = Gauge("folyam_followers", "Responses that follow an answer.", multiprocess_mode="livesum")
STARTED = Counter("folyam_streams_started", "Answers begun.", ["model"])
FINISHED = Counter("folyam_streams_finished", "Answers ended.", ["model", "outcome"])
STOPPED = Counter("folyam_streams_stopped", "Answers stopped, by the cause.", ["model", "by"])
TOKENS = Counter("folyam_tokens", "Tokens, as the upstream counted them.", ["model", "type"])
TOKEN_DETAILS = Counter(
    "folyam_token_details",
    "Tokens among those of folyam_tokens: cached ones of the prompt, reasoning ones of the completion.",
    ["model", "type"],
)
USAGE_INCOMPLETE = Counter(
    "folyam_usage_incomplete", "Ended answers whose tokens the upstream did not tell, or not all.", ["model", "outcome"]
)
REJECTED = Counter("folyam_requests_rejected", "Requests refused before a generation began.", ["reason"])
UPSTREAM_ANSWERS = Counter(
    "folyam_upstream_answers", "Requests to an upstream that brought a first chunk.", ["model", "endpoint"]
)
UPSTREAM_ERRORS = Counter("folyam_upstream_errors", "Upstreams' failures.", ["model", "reason"])
BREAKS = Counter("folyam_upstream_breaks", "Upstreams' failures in the middle of an answer.", ["reason", "outcome"])
MENDED = ("continued", "reattached", "restarted")
"""The outcomes of a break after which the answer went on."""
BREAK = Histogram(
    "folyam_upstream_break_seconds",
    "From an upstream's failure in the middle of an answer to the next chunk.",
    buckets=_doubling(0.05, 51.2),
)
RESUMES = Counter("folyam_resumes", "Answers followed on from an offset.", ["rendering"])
TAKEOVERS = Counter("folyam_takeovers", "Orphaned answers claimed by another worker.", ["outcome"])
UNWATCHED_CHUNKS = Counter("folyam_unwatched_chunks", "Chunks received while their answer had no follower.")
STOP = Histogram(
    "folyam_stop_seconds",
    "Time from a stop to the close of the upstream's connection.",
    buckets=_doubling(0.001, 8.192),
)
OVERDUE = Gauge(
    "folyam_streams_overdue",
    "Answers still being generated well after the timeout that should have ended them.",
    multiprocess_mode="livesum",
)
STREAMS_LIMIT = Gauge("folyam_streams_limit", "Answers that may be generated at once.", multiprocess_mode="livesum")
FOLLOWERS_LIMIT = Gauge("folyam_followers_limit", "Responses that may be sent at once.", multiprocess_mode="livesum")
WORKER_DEATHS = Counter("folyam_worker_deaths", "Workers that were killed or crashed.")
WORKER_DEATHS.inc(own_slot.deaths_found())
APPEND = Histogram(
    "folyam_log_append_seconds",
    "Time from an append to the log to its completion. Most appends to files take no time of their own, and are not"
    " counted.",
    buckets=_doubling(0.0000625, 16.384),
)
LEASES_LOST = Counter("folyam_log_leases_lost", "Answers whose log refused a write, because another worker has them.")
GIVEN_ANEW = Counter(
    "folyam_log_texts_given_anew",
    "Answers given anew from their beginning, because the log had lost a follower's place.",
)
LOG_DISCONNECTED = Gauge(
    "folyam_log_disconnected",
    "Workers without a connection to the server that has the logs. 0 if the logs are files.",
    multiprocess_mode="livesum",
)
RECONNECTS = Counter("folyam_log_reconnects", "Connections to the log's server that took the place of a lost one.")
PUT_BACK = Counter(
    "folyam_log_entries_put_back", "Appends that the log's server had forgotten, and that were written again."
)
LOG_WORKERS = Gauge(
    "folyam_log_workers",
    "Workers of all machines that use the same logs, as last heard. 0 if the logs are files.",
    multiprocess_mode="livemax",
)
LOG_MEMORY_USED = Gauge(
    "folyam_log_memory_used_bytes",
    "Memory that the log's server uses. 0 if the logs are files.",
    multiprocess_mode="livemax",
)
LOG_MEMORY_LIMIT = Gauge(
    "folyam_log_memory_limit_bytes",
    "Memory that the log's server may use. 0 if it has no limit, or if the logs are files.",
    multiprocess_mode="livemax",
)
LOG_ANSWERS = Gauge("folyam_log_answers", "Answers that are kept.", multiprocess_mode="livemostrecent")
LOG_BYTES = Gauge(
    "folyam_log_bytes", "Bytes of the logs of the answers that are kept.", multiprocess_mode="livemostrecent"
)
LOG_LIMIT = Gauge(
    "folyam_log_limit_bytes", "Bytes of logs above which ended answers are erased.", multiprocess_mode="livemax"
)
DISK_FREE = Gauge(
    "folyam_log_disk_free_bytes",
    "Free bytes of the disk that has the logs, if they are files.",
    multiprocess_mode="livemostrecent",
)
DISK_SIZE = Gauge(
    "folyam_log_disk_size_bytes",
    "Bytes of the disk that has the logs, if they are files.",
    multiprocess_mode="livemostrecent",
)
BUILD_INFO = Gauge(
    "folyam_build_info", "Always 1. The label has the version.", ["version"], multiprocess_mode="livemax"
)
BUILD_INFO.labels(__version__).set(1)
