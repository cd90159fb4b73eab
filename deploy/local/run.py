"""`make run`: the local model, gunicorn and nginx as one program.

It prints its steps and the address of the page. When it ends, for any reason, none of its processes is left.
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
from service import interpreter
from service.config import Settings, SettingsError, read_settings, variables

ROOT = Path(__file__).resolve().parents[2]

START_SECONDS = 60.0
"""Timeout for a program's start, on a slow machine with a cold disk."""
POLL_SECONDS = 0.05
"""Poll interval for a program's start."""
DRAIN_SECONDS = 5.0
"""Time for answers to end. Less than the service's own default, because a person waits after Ctrl-C."""
NGINX_STOP_SECONDS = 2.0
"""Time for nginx to end after its last stream."""
GUNICORN_GRACE_SECONDS = 11.0
"""Time that gunicorn takes beyond the drain before it kills its workers (deploy/gunicorn.conf.py)."""
SAME_SIGNAL_SECONDS = 0.3
"""Signals within this time count as one: make passes on a signal that its whole process group has received."""


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM, or the end of the terminal."""


class Interrupts:
    """Raises `Interrupted` on SIGINT, SIGTERM and SIGHUP."""

    def __init__(self) -> None:
        self._last = float("-inf")
        # Explicit, because a shell script starts background processes with SIGINT ignored.
        signal.signal(signal.SIGINT, self._arrived)
        signal.signal(signal.SIGTERM, self._arrived)
        # nohup has SIGHUP ignored.
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._arrived)

    def _arrived(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - what the interpreter passes
        last, self._last = self._last, time.monotonic()
        if self._last - last > SAME_SIGNAL_SECONDS:
            raise Interrupted

    def hold(self) -> None:
        """Ignore the signals from now on, while the run ends."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def say(text: str = "", end: str = "\n") -> None:
    """Print to the terminal, if it is still there."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        # The terminal is gone. Discard later output, also of the interpreter's flush at exit.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends


class Run:
    """One run: checks, processes and their end."""

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
        self.given = self.settings.model_fields_set
        self.drain_seconds = self.settings.drain_seconds if "drain_seconds" in self.given else DRAIN_SECONDS

    def start(self) -> None:
        """Start all programs, and return when an answer has come."""
        say("Folyam")
        if sentence := interpreter.shortcoming():
            say(f"  {sentence}")
        if self.place.remark:
            say(f"  {self.place.remark}")
        for name, nearest in variables.unknown():
            say(f"  {name} is not a variable of Folyam and has no effect.{f' Is {nearest} meant?' if nearest else ''}")
        local = not (self.settings.openai_api_key or "openai_base_url" in self.given)
        if local:
            self._start_model()
        else:
            self._check_api()
        self._start_service()
        self._start_nginx()
        say("  The page       ", end="")
        self._wait_for(f"http://{self.door.reachable()}/readyz", "The page and the service")
        if local:
            # One answer through all programs. Not with an API, which would charge for it.
            event = probes.last_event(f"http://{self.door.reachable()}/generate", next(iter(self.settings.keys), None))
            self.children.watch(0)
            if event.get("type") != "done":
                raise CannotRun(f"The first answer failed: {event.get('message')} The logs are in {self.directory}.")
        self._show_address()

    def watch(self) -> None:
        """Wait until a program ends by itself.

        Raises:
            ChildEnded: a program has ended.
        """
        self.children.watch()

    def stop(self) -> None:
        """End all programs in order: stop accepting requests, let answers end, then end the model."""
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
            # llama.cpp continues a last message of the role `assistant`.
            "FOLYAM_CONTINUE": "assistant",
        }
        command = [sys.executable, "-m", "deploy.local.model", "--port", str(address.port)]
        self.model = self.children.start("model", command, self._with_libraries(), ROOT)
        self._wait_for(f"http://{address}/health", "The local model")
        say("SmolLM2-135M-Instruct, on this machine's CPU")
        if "model" in self.given:
            say("  FOLYAM_MODEL is for an API: set OPENAI_API_KEY or OPENAI_BASE_URL too to use one.")

    def _with_libraries(self) -> dict[str, str]:
        """Return the environment with the libraries that setup.sh unpacked, if it could not install any."""
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
        model = self.settings.model
        if "model" in self.given and offered and model not in offered:
            say(f"  It does not list the model {model!r} (FOLYAM_MODEL).")

    def _start_service(self) -> None:
        say("  Service        ", end="")
        self.environment |= {
            "FOLYAM_BIND": str(self.place.address),
            "FOLYAM_DRAIN_SECONDS": f"{self.drain_seconds:g}",
            "PROMETHEUS_MULTIPROC_DIR": str(self.directory / "metrics"),
        }
        if not self.given & {"log_url", "log_url_file"}:
            self.environment["FOLYAM_LOG_URL"] = (self.directory / "answers").as_uri()
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
        # The page sends no key, so it is of no use here. Keys are not printed.
        headers = "-H 'Content-Type: application/json'"
        if self.settings.keys:
            headers = f"-H 'Authorization: Bearer <a key>' {headers}"
        say("With one of the keys:" if self.settings.keys else f"Open {url} or try:")
        say()
        say(f"""  curl -N {headers} -d '{{"query":"What is a river?"}}' {url}/generate""")
        say()
        say(f"Ctrl-C ends it. The logs are in {os.path.relpath(self.directory)}.")


def settings() -> Settings:
    """Return the settings, which are checked before any program starts.

    Raises:
        CannotRun: a setting is invalid.
    """
    try:
        return read_settings()
    except SettingsError as error:
        raise CannotRun(f"A setting cannot be used. {error}") from error


def main() -> int:
    """Run until a signal comes or a program ends by itself; return the exit status."""
    die_with_parent(os.getppid())
    interrupts = Interrupts()
    run: Run | None = None
    status = 0
    try:
        run = Run()
        run.start()
        run.watch()
    except Interrupted:
        say("\nStopping; open answers may still end. Ctrl-C again stops at once.")
    except CannotRun as error:
        say(f"\n{error}")
        status = 1
    finally:
        if run:
            end(run, interrupts)
    return status


def end(run: Run, interrupts: Interrupts) -> None:
    """End all programs, in order unless interrupted again."""
    try:
        run.stop()
    except Interrupted:
        say("Stopping at once.")
    finally:
        interrupts.hold()
        run.children.sweep()


if __name__ == "__main__":
    sys.exit(main())
