"""`make run`: the local model, gunicorn and nginx as one program.

It says what it does, shows where to look, and when it ends, for whatever reason, nothing of it runs on.
"""

import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from deploy.local import ports, probes, web
from deploy.local.children import Child, Children, die_with_parent
from deploy.local.errors import CannotRun
from service.config import Settings, SettingsError, read_settings, variables

ROOT = Path(__file__).resolve().parents[2]

# How long a program may take to start: a slow machine with a cold disk.
START_SECONDS = 60.0
# Between two looks at whether it has.
POLL_SECONDS = 0.05
# On Ctrl-C the person waits, so answers get less time to end than the service's own default.
DRAIN_SECONDS = 5.0
# How long nginx may take once there is no stream left.
NGINX_STOP_SECONDS = 2.0
# gunicorn waits this much longer than its answers may take, and then kills (deploy/gunicorn.conf.py).
GUNICORN_GRACE_SECONDS = 11.0
# Two signals within this time are one wish: make passes on what its whole group has received.
SAME_SIGNAL_SECONDS = 0.3


class Interrupted(BaseException):
    """Ctrl-C, a signal to end, or the terminal's end."""


class Interrupts:
    """Turns the signals that ask for an end into an exception."""

    def __init__(self) -> None:
        self._last = float("-inf")
        # Ctrl-C even where a script has started this in the background and so had it ignored.
        signal.signal(signal.SIGINT, self._arrived)
        signal.signal(signal.SIGTERM, self._arrived)
        # Not under nohup.
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._arrived)

    def _arrived(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - what the interpreter passes
        last, self._last = self._last, time.monotonic()
        if self._last - last > SAME_SIGNAL_SECONDS:
            raise Interrupted

    def hold(self) -> None:
        """From now on, disregard them: the end is near."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def say(text: str = "", end: str = "\n") -> None:
    """Tell the person, if there is still a terminal to tell them on."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        # The terminal is gone. Later words, and the interpreter's own last flush, go nowhere.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends


class Run:
    """One run, from the first check to the last process."""

    def __init__(self) -> None:
        self.door = ports.door()
        self.place = ports.service()
        self.limits = web.ClientLimits.read()
        self.directory = ROOT / "build" / "run" / str(self.door.port)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.children = Children(self.directory)
        self.model: Child | None = None
        self.service: Child | None = None
        self.nginx: Child | None = None
        self.environment = dict(os.environ)
        self.settings = settings()
        given = os.environ.get("FOLYAM_DRAIN_SECONDS")
        self.drain_seconds = self.settings.drain_seconds if given else DRAIN_SECONDS

    def start(self) -> None:
        """Start everything, and return when an answer can be had."""
        say("Folyam")
        if self.place.remark:
            say(f"  {self.place.remark}")
        for name, nearest in variables.unknown():
            say(f"  {name} is no variable of Folyam's and has no effect.{f' Is {nearest} meant?' if nearest else ''}")
        local = not (self.settings.openai_api_key or "openai_base_url" in self.settings.model_fields_set)
        if local:
            self._start_model()
        else:
            self._check_api()
        self._start_service()
        self._start_nginx()
        say("  The page       ", end="")
        self._wait_for(f"http://{self.door.reachable()}/readyz", "The page and the service")
        if local:
            # The whole way, once. Not with an API that would charge for it.
            event = probes.last_event(f"http://{self.door.reachable()}/generate", next(iter(self.settings.keys), None))
            self.children.watch(0)
            if event.get("type") != "done":
                raise CannotRun(f"The first answer failed: {event.get('message')} The logs are in {self.directory}.")
        self._show_address()

    def watch(self) -> None:
        """Wait until something ends that should not."""
        self.children.watch()

    def stop(self) -> None:
        """End everything in order: no new requests, answers to their end, then the model."""
        self.children.signal(self.nginx, signal.SIGQUIT)
        self.children.signal(self.service, signal.SIGTERM)
        self.children.wait(self.service, self.drain_seconds + GUNICORN_GRACE_SECONDS)
        self.children.wait(self.nginx, NGINX_STOP_SECONDS)
        self.children.signal(self.nginx, signal.SIGTERM)
        self.children.wait(self.nginx, NGINX_STOP_SECONDS)
        self.children.signal(self.model, signal.SIGTERM)
        self.children.wait(self.model, NGINX_STOP_SECONDS)

    def _start_model(self) -> None:
        say("  Local model    ", end="")
        address = ports.free()
        key = secrets.token_urlsafe()
        self.environment |= {
            "OPENAI_BASE_URL": f"http://{address}/v1",
            "OPENAI_API_KEY": key,
            "FOLYAM_MODEL": "smollm2-135m-instruct",
            # llama.cpp goes on from a last message of the assistant's.
            "FOLYAM_CONTINUE": "assistant",
            # For a proxy, 127.0.0.1 is another machine.
            "no_proxy": _with_exception(address),
        }
        command = [sys.executable, "-m", "deploy.local.model", "--port", str(address.port)]
        self.model = self.children.start("model", command, self._with_libraries(), ROOT)
        self._wait_for(f"http://{address}/health", "The local model")
        say("SmolLM2-135M-Instruct, on this machine's CPU")
        if os.environ.get("FOLYAM_MODEL"):
            say("  FOLYAM_MODEL is for an API: set OPENAI_API_KEY or OPENAI_BASE_URL too to use one.")

    def _with_libraries(self) -> dict[str, str]:
        """Add the libraries that the set-up had to bring along where it may not install any."""
        libraries = ROOT / "build" / "lib"
        if not libraries.is_dir():
            return self.environment
        paths = [str(libraries), self.environment.get("LD_LIBRARY_PATH", "")]
        return self.environment | {"LD_LIBRARY_PATH": ":".join(filter(None, paths))}

    def _check_api(self) -> None:
        base_url = self.settings.openai_base_url
        say("  API            ", end="")
        offered = probes.models(base_url, self.settings.openai_api_key.get_secret_value())
        say(base_url)
        model = os.environ.get("FOLYAM_MODEL")
        if model and offered and model not in offered:
            say(f"  It does not list the model {model!r} (FOLYAM_MODEL).")

    def _start_service(self) -> None:
        say("  Service        ", end="")
        self.environment |= {
            "FOLYAM_BIND": str(self.place.address),
            "FOLYAM_LOG_URL": os.environ.get("FOLYAM_LOG_URL") or (self.directory / "answers").as_uri(),
            "FOLYAM_DRAIN_SECONDS": f"{self.drain_seconds:g}",
            "PROMETHEUS_MULTIPROC_DIR": str(self.directory / "metrics"),
        }
        gunicorn = Path(sys.executable).with_name("gunicorn")
        with self.place.listener as listener:
            descriptor = listener.fileno()
            command: list[str | Path] = [gunicorn, "--config", ROOT / "deploy" / "gunicorn.conf.py"]
            command += ["--bind", f"fd://{descriptor}"]
            self.service = self.children.start("service", command, self.environment, ROOT, files=[descriptor])
        self._wait_for(f"http://{self.place.address.reachable()}/livez", "The service")
        say(f"gunicorn on {self.place.address}")

    def _start_nginx(self) -> None:
        directory = self.directory / "nginx"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        directory.with_name("access.log").unlink(missing_ok=True)
        template = (ROOT / "nginx.conf").read_text()
        text = web.configuration(
            template,
            listen=self.door,
            service=self.place.address,
            web_root=ROOT / "frontend" / "dist",
            directory=directory,
            limits=self.limits,
        )
        (directory / "nginx.conf").write_text(text)
        command: list[str | Path] = [web.program(), "-p", directory, "-c", directory / "nginx.conf", "-e", "stderr"]
        self.nginx = self.children.start("nginx", command, self.environment, ROOT)

    def _wait_for(self, url: str, what: str) -> None:
        self._until(lambda: probes.is_up(url), f"{what} did not start within {START_SECONDS:.0f} seconds")

    def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + START_SECONDS
        while not condition():
            self.children.watch(POLL_SECONDS)
            if time.monotonic() > end:
                raise CannotRun(f"{otherwise}. The logs are in {self.directory}.")

    def _show_address(self) -> None:
        host = "localhost" if self.door.host in {"127.0.0.1", "0.0.0.0", "::", "::1"} else self.door.host  # noqa: S104
        url = f"http://{ports.Address(host, self.door.port)}"
        say(url)
        say()
        # The page sends no key; whoever has set keys knows them, and a terminal shows none.
        headers = "-H 'Content-Type: application/json'"
        if self.settings.keys:
            headers = f"-H 'Authorization: Bearer <a key>' {headers}"
        say("With one of the keys:" if self.settings.keys else f"Open {url} or try:")
        say()
        say(f"""  curl -N {headers} -d '{{"query":"What is a river?"}}' {url}/generate""")
        say()
        say(f"Ctrl-C ends it. The logs are in {os.path.relpath(self.directory)}.")


def _with_exception(address: ports.Address) -> str:
    """Return `no_proxy` with the address added, so that requests to it pass by every proxy."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    # "*" excepts everything, but only where it stands alone.
    return given if given == "*" else ",".join(filter(None, (given, str(address))))


def settings() -> Settings:
    """Check every setting before anything starts, and return them."""
    try:
        return read_settings()
    except SettingsError as error:
        raise CannotRun(f"A setting cannot be used. {error}") from error


def main() -> int:
    """Run until told to end, or until something ends by itself."""
    die_with_parent(os.getppid())
    interrupts = Interrupts()
    run: Run | None = None
    status = 0
    try:
        run = Run()
        run.start()
        run.watch()
    except Interrupted:
        say("\nEnding; open answers get a moment. Ctrl-C again ends at once.")
    except CannotRun as error:
        say(f"\n{error}")
        status = 1
    finally:
        if run:
            end(run, interrupts)
    return status


def end(run: Run, interrupts: Interrupts) -> None:
    """End everything, in order if there is time, and in any case."""
    try:
        run.stop()
    except Interrupted:
        say("At once.")
    finally:
        interrupts.hold()
        run.children.sweep()


if __name__ == "__main__":
    sys.exit(main())
