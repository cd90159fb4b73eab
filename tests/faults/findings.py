"""The findings of a run: counts, waits, and violations with their evidence."""

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.percentiles import percentile
from tests.faults.viewing import Viewing

MAX_PLACES = 5
"""Limit on the places that the report names for one kind of violation."""


@dataclass(frozen=True)
class Violation:
    """A violation of the invariant."""

    what: str
    where: str
    """The client's number, or the answer's id."""


@dataclass
class Findings:
    """The findings of one run."""

    seed: int
    directory: Path
    faults: Counter[str] = field(default_factory=Counter)
    questions: Counter[str] = field(default_factory=Counter)
    manners: Counter[str] = field(default_factory=Counter)
    renderings: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    clients: int = 0
    answers: int = 0
    logs: int = 0
    resumes: int = 0
    unreached: int = 0
    refused_without_retry_after: int = 0
    takeovers: int = 0
    seams: Counter[str] = field(default_factory=Counter)
    """Seams in the logs that are there in the end: how they were made, and why."""
    moves: Counter[str] = field(default_factory=Counter)
    """Moves of producers: the state and the cause."""
    waits: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from a producer's death to its successor's request to the upstream, by the cause of the death."""
    pauses: dict[str, list[float]] = field(default_factory=dict)
    """Seconds without a byte for clients of such answers, including their own reconnects and repeated deaths."""
    violations: list[Violation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def violate(self, what: str, where: str) -> None:
        """Add a violation."""
        self.violations.append(Violation(what, where))

    def keep(self, viewing: Viewing, wrong: list[str], log: Path) -> None:
        """Keep the evidence of a client's violation."""
        folder = self.directory / "evidence" / viewing.number.replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            *wrong,
            f"seed: {self.seed}",
            f"answer: {viewing.answer}",
            f"manner: {viewing.manner}",
            f"question: {viewing.question.kind}: {viewing.question.query}",
            f"refusals: {viewing.refusals}",
            f"unreached: {viewing.unreached}; hung: {viewing.hung!r}; asked to stop: {viewing.asked_stop}",
            f"from {viewing.began_at:.3f} to {viewing.ended_at:.3f}, gaps {viewing.gaps}",
        ]
        for number, response in enumerate(viewing.responses, 1):
            (folder / f"response-{number}.bin").write_bytes(response.body)
            lines += [f"response {number}: {response.request}", f"  {response.status}, whole: {response.whole}"]
        (folder / "client.txt").write_text("\n".join(lines) + "\n")
        self.keep_log(log, folder)

    def keep_log(self, log: Path, folder: Path | None = None) -> None:
        """Keep an answer's log."""
        folder = folder or self.directory / "evidence" / log.stem
        folder.mkdir(parents=True, exist_ok=True)
        for path in (log, log.with_suffix(".claims")):
            if path.exists():
                shutil.copy(path, folder / f"log{path.suffix}")

    def lines(self) -> list[str]:
        """Return the report."""
        lines = [
            f"{'fault':36}{'injected':>9}",
            *(f"  {name:34}{count:9}" for name, count in sorted(self.faults.items())),
            f"{'upstream':36}{'asked':>9}",
            *(f"  {name:34}{count:9}" for name, count in sorted(self.questions.items())),
            f"{'clients':36}{self.clients:9}",
            *(f"  {name:34}{count:9}" for name, count in sorted((self.manners + self.renderings).items())),
            f"{'answers checked':36}{self.answers:9}",
            *(f"  {name:34}{count:9}" for name, count in sorted(self.ends.items())),
            f"{'logs checked':36}{self.logs:9}",
            f"{'take-overs':36}{self.takeovers:9}",
            f"{'seams':36}{self.seams.total():9}",
            *(f"  {name:34}{count:9}" for name, count in sorted(self.seams.items())),
            f"{'moves of producers':36}{self.moves.total():9}",
            *(f"  {name:34}{count:9}" for name, count in sorted(self.moves.items())),
            f"{'resumes':36}{self.resumes:9}",
            f"{'requests without a response':36}{self.unreached:9}",
            f"{'requests refused':36}{sum(self.refusals.values()):9}",
            *(f"  {name:34}{count:9}" for name, count in sorted(self.refusals.items())),
            f"{'  for now, without Retry-After':36}{self.refused_without_retry_after:9}",
        ]
        for title, measured in (
            ("wait for a new producer, s", self.waits),
            ("pause that a client saw, s", self.pauses),
        ):
            lines.append(f"{title:36}{'n':>9}{'p50':>8}{'p99':>8}{'max':>8}")
            for name, seconds in sorted(measured.items()):
                figures = "".join(f"{percentile(seconds, part):8.2f}" for part in (0.5, 0.99, 1))
                lines.append(f"  {name:34}{len(seconds):9}{figures}")
        lines += self.notes
        lines.append(f"{'violations':36}{len(self.violations):9}")
        for what, count in Counter(each.what for each in self.violations).most_common(20):
            where = [each.where for each in self.violations if each.what == what]
            lines.append(f"  {what}: {count}, at {', '.join(where[:MAX_PLACES])}")
        return lines
