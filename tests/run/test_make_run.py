"""`make run`, as typed at a terminal."""

import http.client
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import psutil
import pytest

from deploy.local import ports
from service import interpreter
from tests.upstream import script
from tests.upstream.process import UpstreamProcess

ROOT = Path(__file__).parents[2]
# Generous: the machine may be busy with other tests, and a cold disk is slow.
START_SECONDS = 120
END_SECONDS = 30
# The local model decides by itself when it has said enough.
ENDLESS = script.command(endless=True, pace=0.02)


class MakeRun:
    """One `make run` in a session of its own, as a terminal would have it. `prefix` goes before the command."""

    def __init__(self, *prefix: str, **environment: str) -> None:
        self.port = int(environment.get("FOLYAM_PORT") or ports.free().port)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FOLYAM_", "OPENAI_", "MAKE")) and not name.lower().endswith("_proxy")
        }
        self.process = subprocess.Popen(
            # The tests may run under nohup, and would pass its ignored SIGHUP on.
            [*prefix, "env", "--default-signal=HUP", "make", "run"],
            cwd=ROOT,
            # One worker, where a test names no other number: it starts in half the time.
            env=inherited | {"FOLYAM_PORT": str(self.port), "FOLYAM_WORKERS": "1"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""
        self._changed = threading.Condition()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        self.family: set[psutil.Process] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remember()
        for process in self.family:
            if process.is_running():
                process.kill()
        self.process.wait()
        self._reading.join()
        assert self.process.stdout
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._changed:
                self.output += line
                self._changed.notify_all()

    def remember(self) -> None:
        """Record its current processes, to find them after their parents have ended."""
        try:
            make = psutil.Process(self.process.pid)
            self.family |= {make, *make.children(recursive=True)}
        except psutil.NoSuchProcess:
            pass

    def wait_for(self, text: str) -> Self:
        with self._changed:
            assert self._changed.wait_for(
                lambda: text in self.output or self.process.poll() is not None, START_SECONDS
            ), self.output
        assert text in self.output, self.output
        self.remember()
        return self

    def wait_until_ready(self) -> Self:
        return self.wait_for("Ctrl-C ends it")

    def exit_status(self) -> int:
        status = self.process.wait(END_SECONDS)
        self._reading.join()
        return status

    def member(self, part_of_command: str) -> psutil.Process:
        """Find the topmost process whose command holds this."""
        found = [process for process in self.family if part_of_command in " ".join(process.cmdline())]
        return next(process for process in found if process.parent() not in found)

    def none_is_left(self) -> bool:
        return eventually(lambda: not [process for process in self.family if is_alive(process)])

    def request(self, method: str, target: str, body: dict[str, object] | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("localhost", self.port, timeout=END_SECONDS)
        data = json.dumps(body).encode() if body else None
        connection.request(method, target, data, {"Content-Type": "application/json", "Connection": "close"})
        return connection.getresponse()


class ForeignApi(http.server.BaseHTTPRequestHandler):
    """An API that answers every request with one status."""

    status = 200

    def do_GET(self) -> None:
        body = b'{"data": [{"id": "a-model"}]}'
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api(request: pytest.FixtureRequest) -> Iterator[str]:
    handler = type("Handler", (ForeignApi,), {"status": getattr(request, "param", 200)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def eventually(condition: Callable[[], object]) -> bool:
    end = time.monotonic() + END_SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_real_answer_streams_and_ctrl_c_leaves_nothing_behind() -> None:
    # On one core, where the model has one thread. Beside other tests, two spin for minutes as they wait for each other.
    core = str(min(os.sched_getaffinity(0)))
    with MakeRun("taskset", "--cpu-list", core) as run:
        run.wait_until_ready()
        assert f"http://localhost:{run.port}\n" in run.output
        assert f"Folyam\n  {interpreter.shortcoming() or 'Local model'}" in run.output
        assert run.request("GET", "/").read().startswith(b"<!doctype html>")

        command = re.search(r"^ *(curl .*)$", run.output, re.MULTILINE)
        assert command
        events = []
        with subprocess.Popen(command[1], shell=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as curl:  # noqa: S602
            assert curl.stdout
            events = [json.loads(line) for line in curl.stdout if line.strip()]
        assert [event["type"] for event in events][:: len(events) - 1] == ["start", "done"]
        assert len("".join(event.get("text", "") for event in events)) > 20

        # A terminal sends the signal to every process in the foreground.
        os.killpg(run.process.pid, signal.SIGINT)
        run.exit_status()
        assert "Traceback" not in run.output
        assert run.none_is_left()


def test_an_open_answer_is_cut_on_ctrl_c_and_does_not_look_whole(upstream: UpstreamProcess) -> None:
    with MakeRun(OPENAI_BASE_URL=upstream.base_url) as run:
        run.wait_until_ready()
        response = run.request("POST", "/generate", {"query": ENDLESS})
        first = response.readline()
        assert json.loads(first)["type"] == "start"
        os.killpg(run.process.pid, signal.SIGINT)
        with pytest.raises(http.client.IncompleteRead) as cut:
            response.read()
        assert b'"type":"done"' not in cut.value.partial
        run.exit_status()
        assert run.none_is_left()


def test_a_second_ctrl_c_ends_at_once(upstream: UpstreamProcess) -> None:
    with MakeRun(OPENAI_BASE_URL=upstream.base_url, FOLYAM_DRAIN_SECONDS="600") as run:
        run.wait_until_ready()
        response = run.request("POST", "/generate", {"query": ENDLESS})
        response.readline()
        os.killpg(run.process.pid, signal.SIGINT)
        run.wait_for("Ctrl-C again")
        time.sleep(0.5)  # a person's second press, not an echo of the first
        os.killpg(run.process.pid, signal.SIGINT)
        run.exit_status()  # long before the answers' ten minutes are over
        assert run.none_is_left()
        response.close()


def hang_up(run: MakeRun) -> None:
    os.killpg(run.process.pid, signal.SIGHUP)


def terminate_make(run: MakeRun) -> None:
    run.process.terminate()


def kill_make(run: MakeRun) -> None:
    run.process.kill()


def kill_the_supervisor(run: MakeRun) -> None:
    run.member("deploy.local.run").kill()


@pytest.mark.parametrize("way", [hang_up, terminate_make, kill_make, kill_the_supervisor])
def test_nothing_is_left_behind_however_it_ends(way: Callable[[MakeRun], None]) -> None:
    with MakeRun(FOLYAM_WORKERS="2") as run:
        run.wait_until_ready()
        assert len(run.family) >= 7  # make, the supervisor, the model, gunicorn and two workers, nginx and its workers
        way(run)
        run.exit_status()
        assert run.none_is_left()
        assert ports.refusal(ports.Address("127.0.0.1", run.port)) is None


@pytest.mark.parametrize(("name", "command"), [("model", "local.model"), ("service", "gunicorn"), ("nginx", "nginx")])
def test_a_program_that_dies_is_named_and_ends_the_run(name: str, command: str) -> None:
    with MakeRun() as run:
        run.wait_until_ready()
        run.member(command).kill()
        assert run.exit_status() != 0
        assert f"The {name} was killed by SIGKILL. The end of its log" in run.output
        assert run.none_is_left()


def test_two_runs_live_side_by_side(api: str) -> None:
    environment = {"OPENAI_BASE_URL": api, "OPENAI_API_KEY": "any"}
    with MakeRun(**environment) as one, MakeRun(**environment) as two:
        for run in (one, two):
            run.wait_until_ready()
            assert run.request("GET", "/readyz").status == 200


def test_a_busy_port_is_said_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with MakeRun(FOLYAM_PORT=str(port)) as run:
            assert run.exit_status() != 0
            assert f"Port {port} is in use by another program. Choose another with FOLYAM_PORT" in run.output
            assert "Traceback" not in run.output


def test_a_busy_address_for_the_service_that_was_asked_for_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with MakeRun(FOLYAM_BIND=bind) as run:
            assert run.exit_status() != 0
            assert f"FOLYAM_BIND is '{bind}', and that address is in use by another program." in run.output


@pytest.mark.parametrize(
    "environment",
    [{"FOLYAM_PORT": "http"}, {"FOLYAM_PORT": "0"}, {"FOLYAM_BIND": "8000"}, {"FOLYAM_DRAIN_SECONDS": "soon"}],
)
def test_a_setting_that_makes_no_sense_is_named(environment: dict[str, str]) -> None:
    result = subprocess.run(
        ["make", "run"], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode != 0
    (name,) = environment
    assert name in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize("api", [401, 403], indirect=True)
def test_a_refused_key_is_said_with_what_to_do(api: str) -> None:
    with MakeRun(OPENAI_BASE_URL=api, OPENAI_API_KEY="sk-wrong") as run:
        assert run.exit_status() != 0
        assert f"The API at {api} refuses the OPENAI_API_KEY" in run.output
        assert "sk-wrong" not in run.output
        assert "Traceback" not in run.output


def test_an_api_that_cannot_be_reached_is_said_with_what_to_do() -> None:
    closed = f"http://{ports.free()}/v1"
    with MakeRun(OPENAI_BASE_URL=closed) as run:
        assert run.exit_status() != 0
        assert f"The API at {closed} cannot be reached" in run.output


def test_a_model_that_the_api_does_not_have_is_remarked(api: str) -> None:
    with MakeRun(OPENAI_BASE_URL=api, FOLYAM_MODEL="another-model") as run:
        run.wait_until_ready()
        assert "does not list the model 'another-model'" in run.output


def test_a_misspelt_variable_is_named_with_the_right_one(api: str) -> None:
    with MakeRun(OPENAI_BASE_URL=api, FOLYAM_MODLE="a-model", FOLYAM_CLIENT_REQUESTS="50") as run:
        run.wait_until_ready()
        assert "  FOLYAM_MODLE is not a variable of Folyam and has no effect. Is FOLYAM_MODEL meant?\n" in run.output
        assert run.output.count("has no effect") == 1


@pytest.mark.parametrize("exceptions", [{}, {"NO_PROXY": "example.com"}, {"no_proxy": "*"}])
def test_its_own_model_is_not_asked_through_a_proxy(exceptions: dict[str, str]) -> None:
    with MakeRun(http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9", **exceptions) as run:
        run.wait_until_ready()  # which is after a first answer
        assert "SmolLM2" in run.output


def test_an_api_that_is_excepted_from_the_proxy_is_asked_directly(upstream: UpstreamProcess) -> None:
    address = upstream.address.removeprefix("http://")
    proxied = {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": address}
    with MakeRun(OPENAI_BASE_URL=upstream.base_url, **proxied) as run:
        run.wait_until_ready()
        events = [json.loads(line) for line in run.request("POST", "/generate", {"query": "Hello"}) if line.strip()]
        assert events[-1]["type"] == "done"
