"""Imports the app that `module:attribute` names; a module in the current folder goes before an installed one.

Invariant: any failure of the app's own code during its import ends here as an error that names the module. If the
current folder has a file of that name, the app is never taken from another file.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType

from fusion_cluster.app import App
from fusion_cluster.errors import FusionError, UsageError
from fusion_cluster.failures.exits import reraise_outside

DEFAULT_ATTRIBUTE = "app"


def import_app(path: str, extra_sys_path: Sequence[str] = ()) -> App:
    """Import the app that `module:attribute` names.

    Args:
        path: "examples.shop:app"; the attribute may be left out if it is "app".
        extra_sys_path: folders to search after `sys.path`; the current folder comes before installed packages.

    Raises:
        UsageError: the module or attribute does not exist, it is not an App, the module is another file than the one in
            the current folder, or it cannot be imported. The message says which.
        BaseException: a signal, such as Ctrl-C, has interrupted the import.
    """
    module_name, _, attribute = path.partition(":")
    attribute = attribute or DEFAULT_ATTRIBUTE
    _check_name(path, module_name)
    _look_here(extra_sys_path)
    here = _file_here(module_name)
    module = _imported(module_name, here)
    if here is not None and not _is_of_file(module, here):
        raise UsageError(_says_which(module_name, module, here), field="app")
    try:
        app = getattr(module, attribute, None)
    except BaseException as error:  # raised by the module's own __getattr__
        reraise_outside(error)
        raise _failure(module_name, error) from error
    if not isinstance(app, App):
        raise UsageError(_says_what_is_there(module_name, module, attribute, app), field="app")
    return app


def _check_name(path: str, module_name: str) -> None:
    if module_name and all(part.isidentifier() for part in module_name.split(".")) and not module_name.endswith(".py"):
        return
    hint = ""
    if module_name.endswith(".py") or os.sep in module_name:
        parts = Path(module_name.removesuffix(".py")).parts
        if parts and all(part.isidentifier() for part in parts):
            hint = f", such as {'.'.join(parts)}:{DEFAULT_ATTRIBUTE}"
    raise UsageError(f"{path!r} is not of the form module:attribute{hint}", field="app")


def put_on_path(folder: str) -> None:
    """Put a folder on `sys.path`: after Python's own modules, which libraries need, before installed packages."""
    installed = (i for i, path in enumerate(sys.path) if os.path.basename(path) in ("site-packages", "dist-packages"))
    place = next(installed, len(sys.path))
    if folder not in sys.path[:place]:
        sys.path[place:] = [folder, *(path for path in sys.path[place:] if path != folder)]


def _look_here(extra_sys_path: Sequence[str]) -> None:
    try:
        put_on_path(os.getcwd())
    except OSError as error:
        raise UsageError(f"the current folder cannot be read: {error.strerror}", field="app") from error
    sys.path.extend(folder for folder in extra_sys_path if folder not in sys.path)
    importlib.invalidate_caches()  # so that a file that has just been written is found


# -- the module --------------------------------------------------------------------------------------------------------
def _imported(module_name: str, here: Path | None) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _failure(module_name, error) from error
        top = sys.modules.get(module_name.partition(".")[0])
        if here is not None and top is not None:
            raise UsageError(_says_which(module_name, top, here), field="app") from error
        raise UsageError(f"no module {module_name!r} in {os.getcwd()} or on sys.path", field="app") from error
    except BaseException as error:  # sys.exit too: it would end this process as if nothing were wrong
        reraise_outside(error)
        raise _failure(module_name, error) from error


def _failure(module_name: str, error: BaseException) -> UsageError:
    """Return the error for a failed import; its note holds the lines that led to it, from the module on."""
    frames = _frames_of_app(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}:{error.lineno})"
    match error:
        case SystemExit(code=str(reason)):
            what = f"has ended the program: {reason}"
        case SystemExit(code=code):
            what = f"has ended the program with exit code {code or 0}"
        case FusionError():
            what = f"cannot be imported: {error}"
        case _:
            what = f"cannot be imported: {''.join(traceback.format_exception_only(error)[-1:]).strip()}"
    failure = UsageError(f"the app's module {module_name!r} {what}{where}", field="app")
    if frames and not isinstance(error, SystemExit):
        failure.add_note("".join(traceback.format_list(frames)).rstrip())
    return failure


def _frames_of_app(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """Return the frames without ours and those of Python's import machinery."""
    frames = traceback.extract_tb(trace)[1:]
    return [one for one in frames if not one.filename.startswith("<frozen ") and one.filename != importlib.__file__]


# -- the file in the current folder ------------------------------------------------------------------------------------
def _file_here(module_name: str) -> Path | None:
    """Return the file of that module in the current folder; None if it does not exist."""
    path = Path.cwd().joinpath(*module_name.split("."))
    candidates = (path / "__init__.py", path.with_name(path.name + ".py"))
    return next((one for one in candidates if one.is_file()), None)


def _is_of_file(module: ModuleType, here: Path) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and os.path.exists(file) and os.path.samefile(file, here)


def _says_which(module_name: str, found: ModuleType, here: Path) -> str:
    file = getattr(found, "__file__", None) or "a part of Python"
    return (
        f"the module {found.__name__!r} is {file}, which hides {here}: "
        f"give that file, or the folder it is in, another name than {module_name.partition('.')[0]!r}"
    )


def _says_what_is_there(module_name: str, module: ModuleType, attribute: str, found: object) -> str:
    what = "is missing" if found is None else f"is of the type {type(found).__name__}, not an App"
    apps = sorted(name for name, value in vars(module).items() if isinstance(value, App))
    there = f"; its apps: {', '.join(f'{module_name}:{name}' for name in apps)}" if apps else ""
    file = getattr(module, "__file__", None)
    return f"{attribute!r} in module {module_name!r}{f' ({file})' if file else ''} {what}{there}"
