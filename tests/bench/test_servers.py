"""Servers under measurement: what is counted of them."""

from __future__ import annotations

import subprocess
import sys

from usnet_framework.bench.servers import Server

NAPS = 50
SLEEPER = f"""
import sys, threading, time
def nap():
    for _ in range({NAPS}):
        time.sleep(0.001)
    print("slept", flush=True)
    time.sleep(600)
threading.Thread(target=nap, daemon=True).start()
sys.stdin.read()
"""


def test_wakes_are_those_of_all_threads_of_all_its_processes() -> None:
    line = ["sh", "-c", '"$@"; true', "sh", sys.executable, "-c", SLEEPER]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin
        assert shell.stdout
        assert shell.stdout.readline() == b"slept\n"
        wakes = Server("", shell.pid).wakes()
        shell.stdin.close()
    assert wakes >= NAPS
