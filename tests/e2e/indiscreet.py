"""A gunicorn worker of the service with defects: exceptions that quote secrets and people's words."""

import asyncio
from typing import Any

from service.worker import FolyamWorker

IN_THE_PRODUCER = "break-the-producer"
IN_THE_ROUTE = "break-the-route"
IN_THE_LOOP = "break-the-loop"
"""Words that trigger the defects: one in an answer and two in a query."""


class IndiscreetWorker(FolyamWorker):
    """Adds the defects before the application is created."""

    def init_process(self) -> None:
        """Add the defects, then run the usual initialization."""
        # Imported here: the master imports this module, and must not import the service.
        from service.routes import generate  # noqa: PLC0415
        from service.upstream.chunks import ChunkDecoder  # noqa: PLC0415

        feed, check = ChunkDecoder.feed, generate._check

        def indiscreet_feed(self: ChunkDecoder, data: bytes) -> Any:  # noqa: ANN401 (what it returns)
            if IN_THE_PRODUCER.encode() in data:
                raise RuntimeError(data)
            return feed(self, data)

        def indiscreet_check(question: Any, settings: Any) -> Any:  # noqa: ANN401 (what it is given)
            said = f"{question!r} {settings.openai_api_key.get_secret_value()} {settings.system_prompt}"
            if IN_THE_ROUTE in question.query:
                raise RuntimeError(said)
            if IN_THE_LOOP in question.query:
                asyncio.get_running_loop().call_soon(_raise, said)
            return check(question, settings)

        ChunkDecoder.feed = indiscreet_feed  # type: ignore[assignment, method-assign]
        generate._check = indiscreet_check
        super().init_process()


def _raise(said: str) -> None:
    raise RuntimeError(said)
