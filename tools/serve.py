"""Serve an application from a checkout: usnet-serve on the first free ports, and a line that says how to try it.

    tools/serve.py MODULE:ATTRIBUTE [option…]

This process becomes usnet-serve. A helper, detached from it, waits until the server answers and then prints.
"""

from __future__ import annotations

import os
import socket
import sys
import time

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


def answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1) as client:
            client.sendall(b"hello\n")
            return client.recv(6) == b"hello\n"
    except OSError:
        return False


def report(server: int, port: int, metrics: int, control: str) -> None:
    """Print once the server answers; give up silently when it ends first, it has said why."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and os.path.exists(f"/proc/{server}"):
        if answers(port):
            ctl = "usnet-ctl" if control == default_control_path() else f"usnet-ctl --control {control}"
            print(
                f"\nIt answers. Try, in another terminal:\n"
                f'  python3 -c \'import socket as s; c = s.create_connection(("{HOST}", {port})); '
                f'c.send(b"hello\\n"); print(c.recv(99))\'\n'
                f"  .venv/bin/{ctl} status\n"
                f"  python3 -m urllib.request http://{HOST}:{metrics}/metrics\n",
                flush=True,
            )
            return
        time.sleep(0.05)


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
