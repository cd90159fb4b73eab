"""A real Prometheus with the project's configuration, except for the scrape target and interval."""

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from deploy.local import ports
from tests.e2e.stack import READY_SECONDS, ROOT, Program, eventually

PROMETHEUS = ROOT / "build" / "tools" / "prometheus"
SCRAPE_SECONDS = 1


class Prometheus(Program):
    """Scrapes one service and evaluates the project's rules every second."""

    def __init__(self, directory: Path, service: ports.Address) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.address = ports.free()
        configuration = directory / "prometheus.yml"
        configuration.write_text(yaml.safe_dump(_configuration(service)))
        command = [
            str(PROMETHEUS),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={self.address}",
        ]
        super().__init__(command, {}, directory / "prometheus.log")
        eventually(self._ready, READY_SECONDS)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the current series of the expression, each with its labels and its value."""
        answer: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return answer

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or firing."""
        answer: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return answer

    def wait_for_scrapes(self, count: int) -> None:
        """Wait for `count` more scrapes and their rules' evaluation."""

        def scraped() -> float:
            # By the time of the last scrape: for its own counter, Prometheus would have to scrape itself.
            return max((float(each["value"][1]) for each in self.query("timestamp(up)")), default=0.0)

        for _ in range(count + 1):
            before = scraped()
            eventually(lambda before=before: scraped() > before, READY_SECONDS)  # type: ignore[misc]

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.query("up == 1"))
        except OSError:
            return False

    def _get(self, what: str, **parameters: str) -> Any:  # noqa: ANN401 (whatever it is)
        url = f"http://{self.address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=READY_SECONDS) as response:
            return json.load(response)["data"]


def _configuration(service: ports.Address) -> dict[str, Any]:
    directory = ROOT / "deploy" / "prometheus"
    configuration: dict[str, Any] = yaml.safe_load((directory / "prometheus.yml").read_text())
    often = f"{SCRAPE_SECONDS}s"
    configuration["global"] = {"scrape_interval": often, "scrape_timeout": often, "evaluation_interval": often}
    configuration["rule_files"] = [str(directory / name) for name in configuration["rule_files"]]
    [scrape] = configuration["scrape_configs"]
    configuration["scrape_configs"] = [
        {"job_name": scrape["job_name"], "static_configs": [{"targets": [str(service)]}]}
    ]
    return configuration
