"""A Backend: the server shares the addresses of its interface with the kernel, and clients are elsewhere.

    with network_namespace(), SharedInterface() as interface:
        with Server("examples.echo:Echo", backend=interface) as server:
            with interface.clients():    # this thread, and whatever it starts, is where the clients are
                client = server.connect()

The other end of the wire lies in a network namespace of its own. Behind it there may be another one (`far_away`), whose
hosts are reached through it as a router."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from support.backends import Afxdp, current_namespace, inside, network_namespace


class SharedInterface(Afxdp):
    clients_ipv4, clients_ipv6 = "10.77.0.2", "fd77::2"
    far_ipv4, far_ipv6 = "10.88.0.2", "fd88::2"

    def __enter__(self) -> SharedInterface:
        with network_namespace():
            self._clients = current_namespace()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._clients)

    def options(self, port: int, given: Sequence[str] = ()) -> list[str]:
        """As with addresses of our own, without those."""
        options = super().options(port, given)
        while "--address" in options:
            at = options.index("--address")
            options[at : at + 2] = []
        return options

    def connect(self, queues: str) -> None:
        """Both ends have addresses of their kernels."""
        if self._queues != "0":
            ip(f"link delete {self.interface}")
        extra = f"numrxqueues {queues} numtxqueues {queues}"
        ip(f"link add {self.interface} {extra} type veth peer name {self.peer} {extra} netns {_path(self._clients)}")
        with self.clients():
            ip(f"link set {self.peer} up")
            subprocess.run(["tc", "qdisc", "replace", "dev", self.peer, "root", "pfifo", "limit", "1000"], check=True)
            ip(f"address add {self.clients_ipv4}/24 dev {self.peer}")
            ip(f"address add {self.clients_ipv6}/64 dev {self.peer} nodad")
        ip(f"link set {self.interface} up")
        ip(f"address add {self.ipv4}/24 dev {self.interface}")
        ip(f"address add {self.ipv6}/64 dev {self.interface} nodad")
        self._queues = queues

    def clients(self) -> AbstractContextManager[None]:
        return inside(self._clients)

    @contextmanager
    def far_away(self, mtu: int = 1500) -> Iterator[None]:
        """Behind a router, and a link that carries packets of `mtu` bytes at most. Hosts there ask for larger ones, as
        those do whose narrow link is on the way."""
        with self.clients():
            for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
                Path("/proc/sys/net", name).write_text("1")
            ip("link add router0 type veth peer name far0")
            ip(f"link set router0 mtu {mtu} up")
            ip("address add 10.88.0.1/24 dev router0")
            ip("address add fd88::1/64 dev router0 nodad")
            with network_namespace():
                far = current_namespace()
                with self.clients():
                    ip(f"link set far0 netns {_path(far)}")
                os.close(far)
                ip(f"link set far0 mtu {mtu} up")  # one that is larger would lose what is larger without a word
                ip(f"address add {self.far_ipv4}/24 dev far0")
                ip(f"address add {self.far_ipv6}/64 dev far0 nodad")
                ip("route add default via 10.88.0.1 advmss 1460")
                ip("route add default via fd88::1 advmss 1440")
                yield


@contextmanager
def kernel_echoes(host: str, port: int = 0) -> Iterator[int]:
    """A server on the kernel's sockets, with any number of connections: its port."""

    def echo(client: socket.socket) -> None:
        with client:
            while data := client.recv(4096):
                client.sendall(data)

    def accept() -> None:
        with suppress(OSError):  # the listener was shut down
            while True:
                client, _ = listener.accept()
                threading.Thread(target=echo, args=[client], daemon=True).start()

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _path(namespace: int) -> str:
    return f"/proc/{os.getpid()}/fd/{namespace}"


def ip(command: str) -> str:
    """What it says."""
    return subprocess.run(["ip", *command.split()], check=True, stdout=subprocess.PIPE, text=True).stdout
