"""The documentation says what is: links resolve, terms have an entry, settings and commands are written down."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusion_cluster
from fusion_cluster import errors
from tests.architecture.sources import PACKAGES, PROGRAMS, ROOT, Source, documents, sources

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
SETTING = re.compile(r"(FUSION|RAY)_[A-Za-z0-9_]+")


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def settings_in(source: Source) -> Iterator[str]:
    """Names that look like settings, and whatever is asked of the environment by a name that stands there."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SETTING.fullmatch(node.value):
            yield node.value
        asked: ast.expr | None = None
        if (
            isinstance(node, ast.Call)
            and re.fullmatch(r"os\.(getenv|environ\.\w+)", ast.unparse(node.func))
            and node.args
        ):
            asked = node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            asked = node.slice
        if isinstance(asked, ast.Constant) and isinstance(asked.value, str):
            yield asked.value


def terms() -> set[str]:
    return set(re.findall(r"`@?([\w.]+)", (ROOT / "docs" / "glossary.md").read_text()))


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(path: Path) -> None:
    broken = []
    for target in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_every_public_name_is_in_the_glossary() -> None:
    public = {name for name in fusion_cluster.__all__ if name != "errors" and not hasattr(errors, name)}
    assert public, "fusion_cluster exports nothing?"
    assert not public - terms() - {"__version__"}


def test_every_family_of_errors_is_in_the_glossary() -> None:
    families = [
        name for name, item in vars(errors).items() if inspect.isclass(item) and errors.FusionError in item.__bases__
    ]
    assert not {"FusionError", *families} - terms()


def test_every_error_is_exported() -> None:
    classes = [
        name for name, item in vars(errors).items() if inspect.isclass(item) and item.__module__ == errors.__name__
    ]
    assert not [name for name in classes if not issubclass(getattr(errors, name), errors.FusionError)]
    assert not [name for name in classes if getattr(fusion_cluster, name, None) is not getattr(errors, name)]
    assert not set(classes) - set(fusion_cluster.__all__)


def test_every_setting_that_the_code_reads_is_documented() -> None:
    written = {path: path.read_text() for path in documents()}
    read = {name: source.name for source in sources(*PACKAGES, *PROGRAMS) for name in settings_in(source)}
    assert "FUSION_LOG_LEVEL" in read, "settings are found no more"
    undocumented = {
        name: where for name, where in read.items() if not any(f"`{name}`" in text for text in written.values())
    }
    assert not undocumented


def test_no_setting_is_documented_that_nothing_reads() -> None:
    read = {name for source in sources(*PACKAGES, *PROGRAMS) for name in settings_in(source)}
    makefile = (ROOT / "Makefile").read_text()
    documented = set(re.findall(r"^\| `([A-Z]+_\w+)`", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE))
    assert documented
    assert not {name for name in documented - read if name not in makefile}


def test_every_command_is_documented() -> None:
    main = (ROOT / "fusion_cluster" / "cli" / "main.py").read_text()
    commands = re.findall(r'\.command\("([\w-]+)"', main)
    assert commands, "commands are found no more"
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "settings.md").read_text()
    assert not [command for command in commands if f"fusion-cluster {command}" not in text]


def test_every_make_target_is_documented() -> None:
    targets = re.findall(r"^([a-z0-9]+): .*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    readme = (ROOT / "README.md").read_text()
    assert not [target for target in targets if f"make {target}" not in readme]


def test_the_changelog_knows_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changelog
    assert "keepachangelog.com" in changelog


def test_every_decision_says_what_was_decided_and_what_was_rejected() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text()
        missing = [part for part in ("## Context", "## Decision", "## Rejected") if part not in text]
        assert not missing, path.name


def test_every_row_of_the_failure_matrix_names_a_test_that_there_is() -> None:
    rows = (ROOT / "docs" / "operations.md").read_text().partition("## The failure matrix")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", rows))
    there_are = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert named
    assert not named - there_are


def guarantees() -> dict[str, str]:
    """The numbered lines of docs/guarantees.md: each number with what its line says shows it."""
    text = (ROOT / "docs" / "guarantees.md").read_text()
    return dict(re.findall(r"^\| ([A-E]\.\d+) \| .* \| (.*) \|$", text, re.MULTILINE))


def test_every_guarantee_names_what_shows_it_or_says_that_nothing_does_yet() -> None:
    there_are = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    for number, shown_by in guarantees().items():
        named, files = set(re.findall(r"`(test_\w+)`", shown_by)), re.findall(r"`(tests/[\w./]+)`", shown_by)
        assert named or files or "**not yet**" in shown_by, number
        assert not named - there_are, number
        assert all((ROOT / file).exists() for file in files), number


def test_guarantees_are_numbered_without_gaps() -> None:
    numbers = list(guarantees())
    for section in "ABCDE":
        here = [int(number[2:]) for number in numbers if number[0] == section]
        assert here == list(range(1, len(here) + 1)), section


def test_every_guarantee_that_a_test_cites_is_in_the_list() -> None:
    known = set(guarantees())
    cited = {
        (path.relative_to(ROOT).as_posix(), number)
        for path in (ROOT / "tests").rglob("*.py")
        for number in re.findall(r"\b([A-E]\.\d{1,2})(?=[:,;. ]| -)", path.read_text())
        if path != Path(__file__)
    }
    assert len(cited) > 30
    assert not {(path, number) for path, number in cited if number not in known}


def test_every_path_that_contributors_are_sent_to_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:fusion_cluster|router|shards|tests|tools|proto)/[\w./*]*)`", text)
    assert len(paths) > 30
    assert not [path for path in paths if not list(ROOT.glob(path.rstrip("/")))]


def test_every_package_of_the_library_has_a_row_for_contributors() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    packages = {path.parent.name for path in (ROOT / "fusion_cluster").glob("*/__init__.py")}
    here = {name for name in packages if f"`fusion_cluster/{name}/" in text}
    assert packages - here == {"v1"}, "say where to change them"
