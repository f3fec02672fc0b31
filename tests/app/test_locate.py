"""`serve` from code: where a worker finds a class that this process has."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from usnet_framework import Handler
from usnet_framework.errors import UsageError
from usnet_framework.serving import locate

SOURCE = "from usnet_framework import Handler\nclass Outer:\n    class App(Handler): pass\n"


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    """pack.sub.mod, imported; its folder is tmp_path."""
    file = tmp_path / "pack" / "sub" / "mod.py"
    file.parent.mkdir(parents=True)
    file.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("pack.sub.mod", file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["pack.sub.mod"] = loaded
    spec.loader.exec_module(loaded)
    yield loaded
    del sys.modules["pack.sub.mod"]


def test_a_class_of_a_module_is_found_by_name(module: ModuleType, tmp_path: Path) -> None:
    assert locate(module.Outer.App) == ("pack.sub.mod:Outer.App", str(tmp_path))


def test_a_class_of_the_script_is_found_by_path(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_as(module, monkeypatch, spec=False)
    file = tmp_path / "pack" / "sub" / "mod.py"
    assert locate(module.Outer.App) == (f"{file}:Outer.App", str(file.parent))


def test_a_class_of_python_dash_m_is_found_by_name(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_as(module, monkeypatch, spec=True)
    assert locate(module.Outer.App) == ("pack.sub.mod:Outer.App", str(tmp_path))


def run_as(module: ModuleType, monkeypatch: pytest.MonkeyPatch, spec: bool) -> None:
    """Make the module `__main__`, as `python mod.py` or as `python -m pack.sub.mod`."""
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(module, "__name__", "__main__")
    monkeypatch.setattr(module.Outer.App, "__module__", "__main__")
    if not spec:
        monkeypatch.setattr(module, "__spec__", None)


def test_only_a_handler_class_is_served(module: ModuleType) -> None:
    for wrong in (module.Outer.App(), module.Outer, "pack.sub.mod:Outer.App"):
        with pytest.raises(UsageError, match="expected a class derived from"):
            locate(wrong)


def test_a_class_within_a_function_is_refused() -> None:
    class Local(Handler):
        pass

    with pytest.raises(UsageError, match="within a function cannot be imported"):
        locate(Local)


def test_a_class_of_a_notebook_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = type("Cell", (Handler,), {"__module__": "__main__"})
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    with pytest.raises(UsageError, match="was defined interactively"):
        locate(handler)
