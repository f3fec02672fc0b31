"""A test that is skipped for lack of a privilege is skipped for a user, and a failure where CI=true."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.tree import ROOT

SKIPPED = """
import pytest
from support.privilege import PREFIX

@pytest.mark.skipif(True, reason=PREFIX + "may not fly")
def test_flying(): pass

@pytest.mark.skipif(True, reason="another reason")
def test_swimming(): pass
"""


@pytest.mark.parametrize(("ci", "code", "last"), [("", 0, "2 skipped"), ("true", 1, "1 skipped, 1 error")])
def test_a_skip_for_lack_of_privilege(ci: str, code: int, last: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(SKIPPED)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(ROOT / "tests")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1].partition(" in ")[0]) == (code, last), done.stdout
    assert "may not fly: under CI this test has to run" in done.stdout or not ci
