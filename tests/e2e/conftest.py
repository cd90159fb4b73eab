import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.client import Client
from tests.e2e.stack import ROOT, Nginx, Service
from tests.upstream.process import UpstreamProcess


@dataclass(frozen=True)
class Stack:
    """nginx, gunicorn with two workers, and a scripted upstream."""

    upstream: UpstreamProcess
    service: Service
    nginx: Nginx

    @property
    def client(self) -> Client:
        """A client through nginx."""
        return Client(self.nginx.address)

    @property
    def direct(self) -> Client:
        """A client without nginx."""
        return Client(self.service.address)

    @property
    def logs(self) -> Path:
        return self.service.log_directory


@dataclass(frozen=True)
class Pair:
    """Two services of one worker each that share a log directory, so that a test can choose its worker."""

    upstream: UpstreamProcess
    services: tuple[Service, Service]

    @property
    def clients(self) -> tuple[Client, Client]:
        return Client(self.services[0].address), Client(self.services[1].address)

    @property
    def logs(self) -> Path:
        return self.services[0].log_directory


@pytest.fixture(scope="session")
def upstream() -> Iterator[UpstreamProcess]:
    with UpstreamProcess.start() as process:
        yield process


@pytest.fixture(scope="session")
def web_root() -> Path:
    root = ROOT / "frontend" / "dist"
    assert (root / "index.html").is_file(), "the page is not built: make test builds it"
    return root


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess, web_root: Path) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("stack")
    settings = {
        "FOLYAM_HEARTBEAT_SECONDS": "1",
        "FOLYAM_STATUS_WAIT_SECONDS": "0.5",
        "FOLYAM_MODELS": "other-model",
        "FOLYAM_MAX_ANSWER_BYTES": str(64 << 20),
    }
    with (
        Service(directory, directory / "answers", upstream.base_url, settings=settings) as service,
        Nginx(directory, service.address, web_root) as nginx,
    ):
        yield Stack(upstream, service, nginx)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("pair")
    settings = {"FOLYAM_UNWATCHED_SECONDS": "0"}
    with (
        Service(directory / "one", directory / "answers", upstream.base_url, workers=1, settings=settings) as one,
        Service(directory / "two", directory / "answers", upstream.base_url, workers=1, settings=settings) as two,
    ):
        yield Pair(upstream, (one, two))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program, "Chromium is missing: make test installs it"
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program, args=quiet) as browser:
        yield browser
