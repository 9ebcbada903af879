"""`import_app`: what an app's module does while it is imported, and which file its name means."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusion_cluster import UsageError
from fusion_cluster.app_import import import_app

APP = "from fusion_cluster import App\napp = App('here')\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, empty; what is imported from it is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = dict(sys.modules)
    yield tmp_path
    sys.modules.clear()
    sys.modules.update(before)


def refusal(path: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        import_app(path)
    assert raised.value.field == "app"
    return raised.value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import sys; sys.exit('DATABASE_URL is not set')", "has ended the program: DATABASE_URL is not set"),
        ("import sys; sys.exit(0)", "has ended the program with exit code 0"),
        ("import sys; sys.exit()", "has ended the program with exit code 0"),
        ("import sys; sys.exit(3)", "has ended the program with exit code 3"),
        ("raise SystemExit", "has ended the program with exit code 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit('over')", "GeneratorExit: over"),
        ("raise BaseExceptionGroup('all', [SystemExit(1)])", "BaseExceptionGroup: all"),
        ("class Own(BaseException): ...\nraise Own('mine')", "Own: mine"),
        ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
        ("from os import nothing", "cannot import name 'nothing'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError"),
        ("import os; os.environ['FUSION_TEST_NOT_SET']", "KeyError: 'FUSION_TEST_NOT_SET'"),
        ("from fusion_cluster import UsageError; raise UsageError('no such thing')", "no such thing"),
        ("def __getattr__(name): raise SystemExit('not yet')", "has ended the program: not yet"),
    ],
)
def test_whatever_a_module_does_while_it_is_imported_is_an_error_that_names_it(
    body: str, said: str, folder: Path
) -> None:
    (folder / "made_here.py").write_text(f"{body}\n")
    error = refusal("made_here:app")
    assert "'made_here'" in str(error)
    assert said in str(error)
    assert "made_here.py" in str(error) + "".join(getattr(error, "__notes__", []))
    assert "\n" not in str(error)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_during_the_import_is_not_the_modules_doing(folder: Path) -> None:
    (folder / "made_here.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    with pytest.raises(KeyboardInterrupt):
        import_app("made_here:app")


def test_the_lines_that_led_to_an_error_are_told_from_the_module_on(folder: Path) -> None:
    (folder / "settings_here.py").write_text("import os\nDATABASE = os.environ['FUSION_TEST_NOT_SET']\n")
    (folder / "made_here.py").write_text("import settings_here\n")
    (note,) = refusal("made_here:app").__notes__
    assert note.index("made_here.py") < note.index("settings_here.py")
    assert "app_import" not in note
    assert "frozen" not in note


@pytest.mark.parametrize("name", ["queue", "types", "test", "time", "msgspec", "ray"])
def test_a_module_that_hides_the_file_in_the_folder_is_never_taken_for_it(name: str, folder: Path) -> None:
    __import__(name)
    (folder / f"{name}.py").write_text(APP)
    error = str(refusal(f"{name}:app"))
    assert str(folder / f"{name}.py") in error
    if found := getattr(sys.modules[name], "__file__", None):
        assert found in error


def test_a_folder_that_is_hidden_is_named(folder: Path) -> None:
    (folder / "test").mkdir()
    (folder / "test" / "shop_here.py").write_text(APP)
    hiding = str(importlib.import_module("test").__file__)
    error = str(refusal("test.shop_here:app"))
    assert hiding in error
    assert str(folder / "test" / "shop_here.py") in error


def test_the_current_folder_comes_before_what_is_installed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    installed = tmp_path_factory.mktemp("installed") / "site-packages"
    installed.mkdir()
    (installed / "in_two_places.py").write_text("from fusion_cluster import App\napp = App('installed')\n")
    (installed / "only_there.py").write_text("from fusion_cluster import App\napp = App('installed')\n")
    (folder / "in_two_places.py").write_text(APP)
    sys.path.insert(0, str(installed))
    assert import_app("in_two_places:app").name == "here"
    assert import_app("in_two_places", [str(installed)]).name == "here"
    assert import_app("only_there").name == "installed"
    assert sys.path.count(str(folder)) == 1


def test_a_file_with_the_name_of_one_of_pythons_own_breaks_nobody_elses_import(folder: Path) -> None:
    (folder / "quopri.py").write_text("raise SystemExit('this is not the one')\n")
    (folder / "made_here.py").write_text(f"import quopri\n{APP}")
    sys.path[:] = [path for path in sys.path if path != ""]
    sys.modules.pop("quopri", None)
    assert import_app("made_here").name == "here"


def test_a_folder_that_is_told_to_come_first_does_so_and_is_named(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = tmp_path_factory.mktemp("first")
    for each in (first, folder):
        (each / "in_two_places.py").write_text(APP)
    sys.path.insert(0, str(first))  # as PYTHONPATH does
    error = str(refusal("in_two_places"))
    assert str(first / "in_two_places.py") in error
    assert str(folder / "in_two_places.py") in error


def test_packages_with_and_without_init_are_found(folder: Path) -> None:
    for package in ("with_init", "without_init"):
        (folder / package).mkdir()
        (folder / package / "shop.py").write_text(APP)
    (folder / "with_init" / "__init__.py").write_text("from with_init.shop import app\n")
    assert import_app("with_init").name == "here"
    assert import_app("with_init.shop:app").name == "here"
    assert import_app("without_init.shop:app").name == "here"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("shop_here.py", "such as shop_here:app"),
        ("shop_here.py:app", "such as shop_here:app"),
        ("parts/shop_here.py:app", "such as parts.shop_here:app"),
        ("./shop_here", "such as shop_here:app"),
        ("/shop_here", "module:attribute"),
        ("shop here:app", "module:attribute"),
        ("shop..here:app", "module:attribute"),
        ("shop_here:", "'app' in module 'shop_here'"),
        ("shop_here:other", "its apps: shop_here:first, shop_here:second"),
        ("shop_here:make", "is of the type function, not an App"),
        ("shop_here.inner:app", "no module 'shop_here.inner'"),
    ],
)
def test_a_name_that_is_not_right_says_what_would_be(path: str, said: str, folder: Path) -> None:
    (folder / "shop_here.py").write_text(
        "from fusion_cluster import App\nfirst, second = App('a'), App('b')\ndef make(): return first\n"
    )
    assert said in str(refusal(path))


def test_a_folder_that_is_gone_is_told(folder: Path) -> None:
    gone = folder / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert "current folder" in str(refusal("anything:app"))


@pytest.mark.parametrize(
    "command",
    [
        ["serve", "ends_here:app"],
        ["upgrade-database", "ends_here:app"],
        ["events", "list", "ends_here:app"],
        ["events", "retry", "ends_here:app", "1"],
        ["events", "discard", "ends_here:app", "1"],
    ],
    ids=" ".join,
)
def test_no_command_takes_the_end_of_the_module_for_its_own(command: list[str], folder: Path) -> None:
    (folder / "ends_here.py").write_text("import sys\nsys.exit('DATABASE_URL is not set')\n")
    from fusion_cluster.cli.main import MISUSED, run

    assert run(command) == MISUSED


def test_a_command_in_a_process_of_its_own_says_why_the_module_ended(folder: Path) -> None:
    (folder / "ends_here.py").write_text("import sys\nsys.exit(0)\n")
    ended = subprocess.run(
        [sys.executable, "-m", "fusion_cluster.cli", "upgrade-database", "ends_here:app"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"error: the app's module 'ends_here' has ended the program with exit code 0 ({folder}/ends_here.py:2)\n"
    )
