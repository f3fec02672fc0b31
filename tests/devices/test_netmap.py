"""A ring pair of netmap passes the suite of devices (over_netmap.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from support.netmap import preloaded
from support.tree import ROOT


def test_the_suite() -> None:
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/devices/over_netmap.py"]
    environment = os.environ | {"LD_PRELOAD": preloaded()}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-10000:] + done.stderr[-2000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 60, done.stdout
