"""Installed in place, as the README says: Python files stay in the checkout, what is built in the build folder.

The build folder stays for the next run. It is compiled without optimisation: what matters is where files lie."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support.cflags import build_as_the_readme_says
from support.server import Server
from support.tree import ROOT

(README_COMMAND,) = re.findall(r"^pip install .*-e \.$", (ROOT / "README.md").read_text("utf-8"), re.M)
OFFLINE = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--ignore-installed")
BUILD = ROOT / "build/editable"
SETTINGS = (f"--config-settings=build-dir={BUILD}", "--config-settings=setup-args=-Dbuildtype=debug")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """bin of an environment that has an editable install, and everything else from the one that the tests run in."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    pip = [folder / "bin/python", "-m", *shlex.split(README_COMMAND)]
    subprocess.run([*pip, *OFFLINE, *SETTINGS], cwd=ROOT, env=environment, check=True)
    return folder / "bin"


@pytest.mark.timeout(600)  # everything is compiled
def test_an_editable_install_serves_and_has_what_c_programs_need(programs: Path, tmp_path: Path) -> None:
    where = "import usnet_framework as package; print(package.__file__)"
    done = subprocess.run([programs / "python", "-P", "-c", where], check=True, capture_output=True, text=True)
    assert Path(done.stdout.strip()).parent == ROOT / "usnet_framework"
    with Server("examples.echo:Echo", programs=programs) as server, server.connect() as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
    load = "from usnet_framework.bench.load import program; print(program('usnet-load'))"
    done = subprocess.run([programs / "python", "-P", "-c", load], check=True, capture_output=True, text=True)
    assert Path(done.stdout.strip()).is_relative_to(BUILD)
    assert build_as_the_readme_says(tmp_path, programs).exists()
