"""Finding the handler class: what works, and the one line for each mistake."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.tree import ROOT

from usnet_framework import Handler
from usnet_framework.app import SCRIPT_MODULE, load_handler, misspelt_callbacks, parse_app
from usnet_framework.errors import StartupError, UsageError

ECHO = """
from usnet_framework.handler import Handler

class Echo(Handler):
    pass

class Box:
    class Inner(Handler):
        pass

def make():
    return Echo

def make_wrong():
    return Echo()

def make_fail():
    raise RuntimeError("no\\ndatabase")

number = 5
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """write(name, text) puts a module into a fresh folder; what was imported from it is forgotten at the end."""
    path, modules, main = list(sys.path), set(sys.modules), sys.modules["__main__"]

    def write_module(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    yield write_module
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.modules["__main__"] = main


def load(tmp_path: Path, app: str, factory: bool = False) -> str:
    return load_handler(app, factory, str(tmp_path)).__qualname__


def refusal(tmp_path: Path, app: str, factory: bool = False) -> str:
    with pytest.raises(StartupError) as caught:
        load_handler(app, factory, str(tmp_path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_module_and_attribute(tmp_path: Path, write: Write) -> None:
    write("one.py", ECHO)
    assert load(tmp_path, "one:Echo") == "Echo"


def test_dotted_module_and_attribute(tmp_path: Path, write: Write) -> None:
    write("pack/__init__.py", "")
    write("pack/sub.py", ECHO)
    assert load(tmp_path, "pack.sub:Box.Inner") == "Box.Inner"


def test_factory(tmp_path: Path, write: Write) -> None:
    write("one.py", ECHO)
    assert load(tmp_path, "one:make", factory=True) == "Echo"


def test_a_script_is_not_main_when_a_worker_imports_it(tmp_path: Path, write: Write) -> None:
    file = write("script.py", ECHO + "\nif __name__ == '__main__':\n    raise SystemExit('started twice')\n")
    handler = load_handler(f"{file}:Echo", False, str(tmp_path))
    assert handler.__module__ == SCRIPT_MODULE
    assert sys.modules[SCRIPT_MODULE].Echo is handler
    assert sys.modules["__main__"].Echo is handler, "as in a child of multiprocessing"


def test_a_script_in_an_archive(tmp_path: Path, write: Write) -> None:
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__main__.py", ECHO)
    assert load(tmp_path, f"{archive}/__main__.py:Echo") == "Echo"


@pytest.mark.parametrize("app", ["", "one", "one:", ":Echo", "one:2x", "a b:E", "one:Echo()", "a..b:C", "a.txt:Echo:"])
def test_malformed(app: str) -> None:
    with pytest.raises(UsageError, match="expected module:attribute"):
        parse_app(app)


def test_no_such_module(tmp_path: Path, write: Write) -> None:
    write("pack/__init__.py", "")
    assert refusal(tmp_path, "nowhere:Echo") == (
        f"nowhere:Echo: no module named 'nowhere' in {tmp_path} or on the import path; check the name or --app-dir"
    )
    assert "no module named 'pack.sub'" in refusal(tmp_path, "pack.sub:Echo")
    assert "no module named 'gone'" in refusal(tmp_path, "gone.sub:Echo")
    assert refusal(tmp_path / "none", "one:Echo").endswith("; there is no such folder; check --app-dir")


def test_no_such_script(tmp_path: Path) -> None:
    assert refusal(tmp_path, f"{tmp_path}/none.py:Echo") == (
        f"{tmp_path}/none.py:Echo: there is no file {tmp_path}/none.py; check the path"
    )


def test_a_module_that_it_needs_is_missing(tmp_path: Path, write: Write) -> None:
    file = write("one.py", "import os\nimport no_such_library\n")
    assert refusal(tmp_path, "one:Echo") == (
        f"one:Echo: importing one failed: ModuleNotFoundError: No module named 'no_such_library' ({file}:2)"
    )


def test_an_exception_while_importing_names_the_users_line(tmp_path: Path, write: Write) -> None:
    write("one.py", "import helper\n")
    file = write("helper.py", "import json\n\njson.loads('{')\n")
    line = refusal(tmp_path, "one:Echo")
    assert line.startswith("one:Echo: importing one failed: JSONDecodeError: ")
    assert line.endswith(f"({file}:3)")


def test_a_module_that_exits(tmp_path: Path, write: Write) -> None:
    file = write("one.py", "raise SystemExit(7)\n")
    assert refusal(tmp_path, "one:Echo") == f"one:Echo: importing one failed: SystemExit: 7 ({file}:1)"


def test_a_syntax_error(tmp_path: Path, write: Write) -> None:
    file = write("one.py", "x = 1\ndef f(:\n")
    assert refusal(tmp_path, "one:Echo") == f"one:Echo: importing one failed: SyntaxError: invalid syntax ({file}:2)"


def test_no_such_attribute(tmp_path: Path, write: Write) -> None:
    write("one.py", ECHO)
    write("empty.py", "")
    missing = {
        "one:Ecko": "module 'one' has no attribute 'Ecko'; did you mean Echo?",
        "one:Zzz": "module 'one' has no attribute 'Zzz'; its handler classes are Echo",
        "one:Box.Outer": "'Box' has no attribute 'Outer'; its handler classes are Inner",
        "empty:Echo": "module 'empty' has no attribute 'Echo'; it has no handler class",
    }
    for app, line in missing.items():
        assert refusal(tmp_path, app) == f"{app}: {line}"


def test_not_a_handler_class(tmp_path: Path, write: Write) -> None:
    write("one.py", ECHO)
    assert refusal(tmp_path, "one:Box") == "one:Box: class Box is no class derived from usnet_framework.Handler"
    assert refusal(tmp_path, "one:Handler").startswith("one:Handler: class Handler is no class derived from")
    assert refusal(tmp_path, "one:number").startswith("one:number: an instance of int is no class")
    assert refusal(tmp_path, "one:make").endswith("is it a factory? Then add --factory")


def test_factory_mistakes(tmp_path: Path, write: Write) -> None:
    file = write("one.py", ECHO)
    assert refusal(tmp_path, "one:number", factory=True).startswith("one:number: an instance of int cannot be called")
    assert "the factory returned an instance of Echo" in refusal(tmp_path, "one:make_wrong", factory=True)
    line = ECHO.splitlines().index('    raise RuntimeError("no\\ndatabase")') + 1
    assert refusal(tmp_path, "one:make_fail", factory=True) == (
        f"one:make_fail: the factory failed: RuntimeError: no database ({file}:{line})"
    )


def test_sources_that_are_imported_instead_of_the_package_say_so() -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run([sys.executable, "-c", "import usnet_framework"], cwd=ROOT, env=env, capture_output=True,
                          text=True, check=False)  # fmt: skip
    last = f"ImportError: {ROOT}/usnet_framework are the sources, which are not built there: run from another folder"
    assert done.stderr.splitlines()[-1].startswith(last)
    assert "During handling" not in done.stderr


@pytest.mark.parametrize(
    ("callback", "reason"),
    [
        ("def on_data(self, conn, data): yield data", "on_data has a yield, so it is a generator and nobody runs it"),
        ("async def on_warm(self): yield", "on_warm has a yield, so it is a generator and nobody runs it"),
        ("async def on_error(self, conn, error): pass", "on_error is an async def, and its answer is needed at once"),
    ],
)
def test_a_callback_that_would_do_nothing_is_refused(
    callback: str, reason: str, tmp_path: Path, write: Write
) -> None:
    whole = "\nclass Whole(Echo):\n    on_data = on_warm = on_error = print\n"
    write("one.py", ECHO.replace("pass", callback, 1) + whole)
    assert refusal(tmp_path, "one:Echo").startswith(f"one:Echo: {reason}; ")
    assert load(tmp_path, "one:Whole") == "Whole"


def handler(*names: str) -> type[Handler]:
    return type("Other", (Handler,), {name: lambda self: None for name in names})


def test_a_method_that_is_nearly_named_as_a_callback() -> None:
    assert misspelt_callbacks(handler("on_date", "on_resumed")) == {"on_date": "on_data", "on_resumed": "on_resume"}
    assert misspelt_callbacks(handler("on_data", "on_date", "on_tick", "no_data")) == {}
    assert misspelt_callbacks(handler()) == {}
