"""Serve an application from a checkout: usnet-serve on the first free ports, and a line that says how to try it.

    tools/serve.py MODULE:ATTRIBUTE [option…]

This process becomes usnet-serve. A helper, detached from it, waits until the server answers and then prints.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.request

from usnet_framework.config import default_control_path

HOST = "127.0.0.1"
PORT = 7000
METRICS_PORT = 9464
TRIES = 100
READY_SECONDS = 60


def free_port(first: int) -> int:
    """The first port from `first` on that nobody listens on."""
    for port in range(first, first + TRIES):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    sys.exit(f"serve: no free port from {first} to {first + TRIES - 1}")


def control_path(port: int) -> str:
    """The usual control socket, or one of our own while another server listens there."""
    usual = default_control_path()
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(usual)
        except OSError:
            return usual
    return os.path.abspath(f"build/control-{port}.sock")


def ready(metrics: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{metrics}/readyz", timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def report(server: int, port: int, metrics: int, control: str) -> None:
    """Print once the server answers; give up silently when it ends first, it has said why."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and os.path.exists(f"/proc/{server}"):
        if ready(metrics):
            print(hint(port, metrics, control), flush=True)
            return
        time.sleep(0.05)


def hint(port: int, metrics: int, control: str) -> str:
    client = f'import socket; c = socket.create_connection(("{HOST}", {port})); c.send(b"hello"); print(c.recv(99))'
    ctl = "" if control == default_control_path() else f" --control {control}"
    return (
        f"\nServing on {HOST}:{port}. Try:  python3 -c '{client}'\n"
        f"Look:  .venv/bin/usnet-ctl status{ctl}   Metrics:  http://{HOST}:{metrics}/metrics   Stop:  Ctrl-C\n"
    )


def main(argv: list[str]) -> None:
    port, metrics = free_port(PORT), free_port(METRICS_PORT)
    control = control_path(port)
    server = os.getpid()
    if os.fork() == 0:
        if os.fork() == 0:
            report(server, port, metrics, control)
        os._exit(0)
    os.wait()
    program = os.path.join(os.path.dirname(sys.executable), "usnet-serve")
    options = ["--bind", f"tcp://{HOST}:{port}", "--metrics", f"{HOST}:{metrics}", "--control", control]
    os.execv(program, [program, *options, *argv])


if __name__ == "__main__":
    main(sys.argv[1:])
