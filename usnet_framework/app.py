"""Find the handler class that `module:attribute` names. Runs in worker processes only: importing is the user's code.

The module may also be a path to a file (`/srv/chat.py:Chat`), which is imported as multiprocessing's children import
the script that was started: it is the module `__main__`, so that pools of the application find what is in it, but its
`__name__` is another, so that a script that serves a class of its own does not start a second server.

Every mistake becomes a StartupError of one line. It keeps apart what the user has to do about it: the module is not
where one looked (check --app-dir), the module exists and fails (file and line of the user's frame), the attribute is
missing or no handler class.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any
from zipimport import zipimporter

from usnet_framework import bytecode
from usnet_framework.errors import StartupError, UsageError, UsnetError
from usnet_framework.handler import Handler
from usnet_framework.logs import one_line

ERROR_CHARACTERS_MAX = 2000
"""Of an exception's message: what is told in one line has to fit into one message to the supervisor as well."""

LIBRARIES = (os.path.dirname(os.__file__), os.path.dirname(__file__))
"""Python's own files and ours; an editable install has ours in no site-packages."""

SCRIPT_MODULE = "__mp_main__"
"""The `__name__` of a file that is imported by its path: what multiprocessing calls it, in children and for pickles."""

_is_importing = False


def is_importing() -> bool:
    """Whether this process imports an application, or is a child of multiprocessing that imports the script of another;
    neither may serve."""
    processes = sys.modules.get("multiprocessing.process")
    return _is_importing or (processes is not None and getattr(processes.current_process(), "_inheriting", False))


def parse_app(app: str) -> tuple[str, str]:
    """`module:attribute` or `path.py:attribute` as (module, attribute); UsageError when it is neither."""
    module, colon, attribute = app.rpartition(":")
    dotted = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
    is_module = re.fullmatch(dotted, module) or module.endswith(".py")
    if not colon or not is_module or not re.fullmatch(dotted, attribute):
        raise UsageError(f"{app!r}: expected module:attribute, for instance examples.echo:Echo")
    return module, attribute


def load_release(load: dict[str, Any]) -> type[Handler]:
    """What the message `load` says (shards/messages.py), in a process that has no other use. StartupError."""
    app, folder = load["app"], load["folder"]
    sys.argv[:] = load["argv"]
    try:
        if not (os.path.isdir(os.curdir) and os.path.samefile(os.curdir, folder)):
            os.chdir(folder)
    except OSError as error:
        raise StartupError(f"{app}: cannot enter the folder {folder}: {error.strerror}") from None
    bytecode.load_below(load["app_dir"])
    try:
        return load_handler(app, load["factory"], load["app_dir"])
    except UsnetError:
        raise
    except Exception as error:  # of ours: those of the application are told apart above
        raise StartupError(f"{app}: {describe_error(error)}") from error


def load_handler(app: str, factory: bool, app_dir: str) -> type[Handler]:
    """Import the application from `app_dir` or the import path, and return its handler class.

    With `factory` the attribute is called without arguments and returns the class.
    """
    global _is_importing
    module_name, attribute = parse_app(app)
    _is_importing = True
    try:
        module = _import(app, module_name, app_dir)
        found = _find(app, module, module_name, attribute)
        if factory:
            found = _call(app, found)
    finally:
        _is_importing = False
    return _check(app, found, factory)


def _import(app: str, name: str, app_dir: str) -> ModuleType:
    folder = str(Path(app_dir).absolute())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return _import_file(Path(folder, name)) if name.endswith(".py") else importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may also raise SystemExit
        if isinstance(error, ModuleNotFoundError) and _is_or_contains(error.name, name):
            raise StartupError(
                f"{app}: no module named {error.name!r} in {folder} or on the import path; {_advice(folder)}"
            ) from None
        if isinstance(error, FileNotFoundError) and name.endswith(".py") and error.filename == str(Path(folder, name)):
            raise StartupError(f"{app}: there is no file {error.filename}; check the path") from None
        raise StartupError(f"{app}: importing {name} failed: {describe_error(error)}{_unreadable()}") from error


def _unreadable() -> str:
    """Whether this user has no Python to import from, which --user is easily set to."""
    folder = os.path.dirname(os.__file__)
    return "" if os.access(folder, os.R_OK | os.X_OK) else f"; user {os.geteuid()} may not read {folder}"


def _advice(folder: str) -> str:
    try:
        os.listdir(folder)
    except PermissionError:
        return f"user {os.geteuid()} may not read that folder"
    except FileNotFoundError:
        return "there is no such folder; check --app-dir"
    except OSError:
        pass
    return "check the name or --app-dir"


def _import_file(path: Path) -> ModuleType:
    """As `__main__`. Without a spec, multiprocessing hands children the path; they cannot run one within an archive."""
    path = path.resolve()
    archive = path.parent
    if zipfile.is_zipfile(archive):
        importer = zipimporter(str(archive))
        module = ModuleType(SCRIPT_MODULE)
        module.__file__ = str(path)
        module.__spec__ = ModuleSpec("__main__", importer)  # type: ignore[arg-type]
        code: CodeType | None = importer.get_code(path.stem)
    else:
        os.stat(path)
        loader = bytecode.Loader(SCRIPT_MODULE, str(path))
        spec = importlib.util.spec_from_file_location(SCRIPT_MODULE, path, loader=loader)
        assert spec is not None, path  # never None: the name ends with .py
        module = importlib.util.module_from_spec(spec)
        module.__spec__ = None
        code = loader.get_code(SCRIPT_MODULE)
    assert code is not None, path
    sys.modules[SCRIPT_MODULE] = sys.modules["__main__"] = module
    exec(code, module.__dict__)
    return module


def _is_or_contains(missing: str | None, name: str) -> bool:
    return missing is not None and (name == missing or name.startswith(missing + "."))


def _find(app: str, module: ModuleType, module_name: str, attribute: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            owner = f"module {module_name!r}" if found is module else repr(getattr(found, "__qualname__", found))
            raise StartupError(f"{app}: {owner} has no attribute {part!r}{_hint(found, part)}") from None
    return found


def _hint(owner: Any, missing: str) -> str:
    handlers = [name for name, value in vars(owner).items() if _is_handler(value)]
    if nearest := difflib.get_close_matches(missing, handlers, n=1):
        return f"; did you mean {nearest[0]}?"
    return f"; its handler classes are {', '.join(sorted(handlers))}" if handlers else "; it has no handler class"


def _call(app: str, factory: Any) -> Any:
    if not callable(factory):
        raise StartupError(f"{app}: {_kind(factory)} cannot be called; leave --factory out or name a function")
    try:
        return factory()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise StartupError(f"{app}: the factory failed: {describe_error(error)}") from error


def _check(app: str, found: Any, factory: bool) -> type[Handler]:
    if _is_handler(found):
        if trouble := _uncallable(found):
            raise StartupError(f"{app}: {trouble}")
        return found  # type: ignore[no-any-return]
    if factory:
        raise StartupError(f"{app}: the factory returned {_kind(found)}; it has to return a class derived from Handler")
    hint = "; is it a factory? Then add --factory" if inspect.isroutine(found) else ""
    raise StartupError(f"{app}: {_kind(found)} is no class derived from usnet_framework.Handler{hint}")


def misspelt_callbacks(handler_class: type[Handler]) -> dict[str, str]:
    """Methods that are nearly named as a callback which the class does not define, and that callback."""
    callbacks = {name for name in vars(Handler) if name.startswith("on_")}
    missing = [name for name in callbacks if getattr(handler_class, name) is getattr(Handler, name)]
    own = [name for name in dir(handler_class) if name.startswith("on_") and name not in callbacks]
    nearest = {name: difflib.get_close_matches(name, missing, n=1, cutoff=0.8) for name in own}
    return {name: matches[0] for name, matches in nearest.items() if matches}


def _uncallable(handler_class: type[Handler]) -> str | None:
    """Which callback would do nothing when it is called, and why."""
    for name in (name for name in vars(Handler) if name.startswith("on_")):
        callback = getattr(handler_class, name)
        if inspect.isgeneratorfunction(callback) or inspect.isasyncgenfunction(callback):
            return f"{name} has a yield, so it is a generator and nobody runs it; take the yield out"
        if name == "on_error" and inspect.iscoroutinefunction(callback):
            return "on_error is an async def, and its answer is needed at once; make it a def, and use spawn in it"
    return None


def _is_handler(value: Any) -> bool:
    """A class derived from Handler; Handler itself answers to nothing."""
    return isinstance(value, type) and issubclass(value, Handler) and value is not Handler


def _kind(value: Any) -> str:
    if isinstance(value, type):
        return f"class {value.__qualname__}"
    if inspect.isroutine(value):
        return f"function {getattr(value, '__qualname__', value)}"
    if isinstance(value, ModuleType):
        return f"module {value.__name__}"
    return f"an instance of {type(value).__qualname__}"


def describe_error(error: BaseException) -> str:
    """One line: the exception, its message, and the file and line where the user's code raised it."""
    message = one_line(" ".join(str(error).split()))
    if len(message) > ERROR_CHARACTERS_MAX:
        message = f"{message[:ERROR_CHARACTERS_MAX]} …"
    name = type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{name}: {error.msg} ({error.filename}:{error.lineno})"
    place = _place(error.__traceback__)
    return f"{name}: {message}{place}" if message else f"{name}{place}"


def _place(traceback: TracebackType | None) -> str:
    """The innermost frame of the user's own files: not the import system's, not an installed library's."""
    place = own = ""
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        if not filename.startswith("<frozen ") and filename not in (__file__, importlib.__file__):
            place = f" ({filename}:{traceback.tb_lineno})"
            if "site-packages" not in filename and not filename.startswith(LIBRARIES):
                own = place
        traceback = traceback.tb_next
    return own or place
