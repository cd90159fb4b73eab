"""Imports point one way, and each foreign library has few who know it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("service/**/*.py"))

LAYERS: tuple[tuple[str, ...], ...] = (
    # From the top: whoever is in one layer may import from those below it, and from its own.
    ("service/main.py",),
    ("service/app.py",),
    ("service/routes/",),
    ("service/http_errors.py", "service/middleware.py"),
    ("service/answers.py",),
    ("service/supervisor.py", "service/producer.py", "service/follower.py"),
    ("service/context.py",),
    ("service/eventlog/", "service/upstream/", "service/renderings/"),
    (
        "service/question.py",
        "service/telemetry/",
        "service/keys.py",
    ),
    ("service/worker.py",),
    (
        "service/events.py",
        "service/errors.py",
        "service/logging.py",
        "service/succession.py",
        "service/__init__.py",
        "service/sandbox.py",
        "service/config/",
    ),
)

KNOWN_TO = {
    "fastapi": (
        "service/app.py",
        "service/main.py",
        "service/routes/",
        "service/middleware.py",
        "service/http_errors.py",
    ),
    "starlette": ("service/app.py", "service/routes/", "service/middleware.py", "service/http_errors.py"),
    "openai": ("service/upstream/endpoint.py",),
    "httptools": ("service/upstream/connection.py",),
    "httpx2": ("service/upstream/endpoint.py", "service/upstream/pool.py"),
    "prometheus_client": (
        "service/telemetry/metrics.py",
        "service/telemetry/worker_slots.py",
        "service/telemetry/allocation.py",
    ),
    "inotify_simple": ("service/eventlog/files/inotify.py",),
    "opentelemetry": ("service/telemetry/otlp.py",),
    "pydantic_settings": ("service/config/",),
    "gunicorn": ("service/worker.py",),
    "uvicorn": ("service/worker.py",),
    "uvicorn_worker": ("service/worker.py",),
}

LEAVES = (
    "service/events.py",
    "service/errors.py",
    "service/logging.py",
    "service/succession.py",
)


def imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            module = node.module or ""
            # `from service import metrics` imports a module, `from service.events import Delta` a name.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports_of(module: str) -> set[str]:
    return set(imports((ROOT / module).read_text(encoding="utf-8")))


def module_of(name: str) -> str:
    """The file that an import of ours reads: `service.eventlog.Lease` is found in service/eventlog/__init__.py."""
    parts = name.split(".")
    while True:
        path = "/".join(parts)
        for candidate in (f"{path}.py", f"{path}/__init__.py"):
            if candidate in MODULES:
                return candidate
        parts.pop()


def ours(module: str) -> set[str]:
    return {module_of(name) for name in imports_of(module) if name.split(".")[0] == "service"}


def is_in(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or (place.endswith("/") and module.startswith(place)) for place in places)


def layer_of(module: str) -> int:
    [layer] = [number for number, places in enumerate(LAYERS) if is_in(module, places)]
    return layer


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_its_own_layer_and_those_below(module: str) -> None:
    upwards = {other for other in ours(module) if layer_of(other) < layer_of(module)}
    assert not upwards


@pytest.mark.parametrize("module", LEAVES)
def test_a_leaf_imports_nothing_of_ours(module: str) -> None:
    assert ours(module) == set()


def test_the_master_imports_nothing_of_ours_but_the_worker_and_its_succession() -> None:
    """What the master has imported its workers inherit: a reload goes on with the old code of it."""
    assert ours("service/worker.py") == {"service/succession.py"}


@pytest.mark.parametrize("library", KNOWN_TO)
def test_a_foreign_library_is_known_to_few(library: str) -> None:
    knowing = {module for module in MODULES if any(name.split(".")[0] == library for name in imports_of(module))}
    assert {module for module in knowing if not is_in(module, KNOWN_TO[library])} == set()


def test_nothing_but_the_log_knows_its_files() -> None:
    inside = {module for module in MODULES if module.startswith("service/eventlog/")}
    hidden = inside - {"service/eventlog/__init__.py"}
    assert {module for module in MODULES if module not in inside and ours(module) & hidden} == set()


def test_no_two_modules_import_each_other() -> None:
    def reach(module: str, seen: set[str]) -> set[str]:
        for other in ours(module) - seen:
            seen.add(other)
            reach(other, seen)
        return seen

    # A package's __init__ is imported before each of its modules, but asks nothing of those that do not ask for it.
    assert {module for module in MODULES if module in reach(module, set())} == set()


def test_the_reading_of_imports_sees_every_form() -> None:
    source = "import a.b\nimport c as d\nfrom e.f import g, h\ndef later():\n    from i import j\n"
    assert set(imports(source)) == {"a.b", "c", "e.f.g", "e.f.h", "i.j"}
    assert module_of("service.eventlog.Lease") == "service/eventlog/__init__.py"
    assert module_of("service.events.Delta") == "service/events.py"
    assert module_of("service.telemetry.metrics") == "service/telemetry/metrics.py"
