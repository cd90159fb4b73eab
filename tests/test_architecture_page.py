"""The paths and names in docs/architecture.md and CONTRIBUTING.md exist."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LAYERS = PAGE.partition("\n## Layers\n")[2].partition("\n## ")[0]


def rows(section: str) -> list[list[str]]:
    """The cells of the section's first table, without its head."""
    lines = section[section.index("\n| ") :].strip().partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def named(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def contract(name: str) -> dict[str, list[str]]:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    [found] = [each for each in contracts if each["name"] == name]
    return dict(found)


def test_the_layers_are_those_of_the_contract_in_their_order() -> None:
    layers = [re.split(r" [:|] ", layer) for layer in contract("Imports point one way")["layers"]]
    assert [named(row[0]) for row in rows(LAYERS)] == layers


def test_every_module_and_package_of_the_service_has_a_layer() -> None:
    there = {path.stem for path in (ROOT / "service").glob("*.py")} - {"__init__"}
    there |= {path.parent.name for path in (ROOT / "service").glob("*/__init__.py")}
    assert {module for row in rows(LAYERS) for module in named(row[0])} == there


@pytest.mark.parametrize(
    ("contract_name", "library"),
    [
        ("Only the web layers know FastAPI and Starlette", "FastAPI, Starlette"),
        ("Only the composition root and routes know the settings", "`service.config` (the settings)"),
        ("Only the upstream knows the openai package and HTTP clients", "`openai`, `httpx2`, `aiohappyeyeballs`"),
        ("Only telemetry knows Prometheus and OpenTelemetry", "`prometheus_client`, `opentelemetry`"),
        ("Only the settings know where they come from", "`pydantic_settings`"),
        ("Only the worker knows its server", "gunicorn, uvicorn"),
    ],
)
def test_who_knows_a_library_is_what_its_contract_says(contract_name: str, library: str) -> None:
    table = rows(LAYERS.partition("Further contracts")[2])
    [known_to] = [named(row[0]) for row in table if row[1] == library]
    allowed = contract(contract_name)["allowed_importers"]
    assert sorted(known_to) == sorted(module.removeprefix("service.") for module in allowed)


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_the_files_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"\b(?:service|tests|frontend|docs|deploy)/[\w./-]*\w|\b\w+\.(?:md|conf|toml|yml)\b", text)
    missing = {path for path in paths if not (ROOT / path).exists() and not (ROOT / "docs" / path).exists()}
    assert len(paths) > 20
    assert missing == set()


def test_the_functions_on_the_way_of_a_chunk_are_there() -> None:
    way = PAGE.partition("\n## The way of a chunk\n")[2].partition("\n## Glossary")[0].partition("```\n\n")[2]
    life = PAGE.partition("\n## The life of an answer\n")[2].partition("\n## ")[0]
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "service").glob("**/*.py")))
    names = [name for name in named(way + life) if not re.search(r"[/ ]|\.py$", name)]
    parts = {part for name in names for part in name.split(".")}
    defined = set(re.findall(r"(?:def|class) (\w+)|^ +(\w+): |\"(\w+)\"", source, re.MULTILINE))
    missing = parts - {name for each in defined for name in each}
    assert {"UpstreamStream", "_log", "appended", "generate_response_stream"} <= parts
    assert missing == set()


def test_a_term_of_the_glossary_is_explained_once_in_one_sentence() -> None:
    glossary = PAGE.partition("\n## Glossary\n")[2].partition("\n## ")[0]
    anchors = re.findall(r'<a id="([\w-]+)">', glossary)
    assert len(anchors) == len(set(anchors)) == len(rows(glossary))
    for _, meaning in rows(glossary):
        assert re.fullmatch(r"[^.]+(\.\w[^.]*)*\.", re.sub(r"`[^`]*`", "", meaning)), meaning


# CONTRIBUTING.md


def test_the_tests_that_contributing_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    commands = re.findall(r"(\S*test\S*\.(?:py|js)) -[kt] \"?([\w .]+?)\"?(?:`|\s*#|\n)", text)
    assert len(commands) >= 3
    for path, name in commands:
        place = ROOT / path if (ROOT / path).exists() else ROOT / "frontend" / path
        assert name in place.read_text(encoding="utf-8"), name


def test_the_targets_that_contributing_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named_here = {one or other for one, other in re.findall(r"`make ([\w-]+)|^make ([\w-]+)", text, re.MULTILINE)}
    assert {"check", "test", "setup-tests"} <= named_here <= targets
