"""What the README shows is true: its table is the one that the options make, and its Python runs."""

from __future__ import annotations

import re

import pytest
from support.tree import ROOT

from usnet_framework import Handler
from usnet_framework.config import option_table

README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.S)


class Recorder:
    """As much of a Connection as a snippet's handler calls."""

    def __init__(self) -> None:
        self.state = b""
        self.sent = b""

    def send(self, data: memoryview | bytes) -> bool:
        self.sent += bytes(data)
        return True


def test_the_table_of_options_is_current() -> None:
    assert option_table() in README, "run: make docs"


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_snippets_compile(snippet: str) -> None:
    compile(snippet, "README.md", "exec")


def test_the_handler_of_the_readme_runs() -> None:
    names: dict[str, object] = {}
    exec(SNIPPETS[0], names)
    classes = [value for value in names.values() if isinstance(value, type) and issubclass(value, Handler)]
    (handler,) = [value for value in classes if value is not Handler]
    conn = Recorder()
    handler().on_data(conn, memoryview(b"hello\n"))
    assert conn.sent
    assert len(SNIPPETS[0].splitlines()) <= 15


def test_the_test_of_the_readme_passes() -> None:
    names: dict[str, object] = {}
    exec(SNIPPETS[0] + SNIPPETS[1], names)
    (test,) = [value for name, value in names.items() if name.startswith("test_")]
    assert callable(test)
    test()
