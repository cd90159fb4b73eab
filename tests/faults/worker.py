"""The service's worker with one thing in it broken, for gunicorn to start in its place."""

import os

from service.worker import FolyamWorker

VARIABLE = "FOLYAM_TEST_SABOTAGE"
"""Names what is broken: one of `tests.faults.sabotage.SABOTAGES`."""


class SabotagedWorker(FolyamWorker):
    """Breaks it before the application is made."""

    def init_process(self) -> None:
        """Break it, then go on as usual."""
        # Not sooner: the master imports this module, and must not import the service.
        from tests.faults.sabotage import SABOTAGES  # noqa: PLC0415

        SABOTAGES[os.environ[VARIABLE]]()
        super().init_process()
