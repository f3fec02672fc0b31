"""How a C program is built against an installed package: as the README says, with what its pkg-config file says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

from support.server import PROGRAMS, command
from support.tree import ROOT

(README_COMMANDS,) = re.findall(r"^export PKG_CONFIG_PATH=.*\ncc .*$", (ROOT / "README.md").read_text("utf-8"), re.M)


def pkgconfig_folder(programs: Path = PROGRAMS) -> Path:
    asked = [command("usnet-ctl", programs), "--pkgconfigdir"]
    done = subprocess.run(asked, check=True, capture_output=True, text=True)
    return Path(done.stdout.removesuffix("\n"))


def flags(what: str) -> list[str]:
    """`what`: --cflags or --libs."""
    environment = os.environ | {"PKG_CONFIG_PATH": str(pkgconfig_folder())}
    done = subprocess.run(["pkg-config", what, "usnet"], env=environment, check=True, capture_output=True, text=True)
    return shlex.split(done.stdout)


def compiled(name: str, folder: Path) -> Path:
    """An example in C."""
    program = folder / name
    source = ROOT / f"examples/c/{name}.c"
    subprocess.run(["cc", *flags("--cflags"), source, *flags("--libs"), "-o", program], check=True)
    return program


def build_as_the_readme_says(folder: Path, programs: Path = PROGRAMS) -> Path:
    """The program `echo`, made in `folder` by the README's commands."""
    (folder / "examples").symlink_to(ROOT / "examples")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", README_COMMANDS], cwd=folder, env=environment, check=True)
    return folder / "echo"
