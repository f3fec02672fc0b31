"""A host under test whose addresses a kernel has as well: the test plays the kernel, and writes its table."""

from __future__ import annotations

import ipaddress
from mmap import mmap
from typing import Any

from usnet_framework._native import mapped_ip
from usnet_framework._native_kernel import Route, table_bytes, write_table
from usnet_framework.testing import Host
from usnet_framework.testing.host import GATEWAY, LOCAL

PORTS = (50000, 50099)
"""Set aside for connections that the host opens."""


class SharedHost(Host):
    """The kernel has the addresses LOCAL, a way to their networks and a default route by GATEWAY, and knows nobody."""

    def __init__(self, **options: Any) -> None:
        self.table = mmap(-1, table_bytes())
        self.addresses = [f"{LOCAL[4]}/24", f"{LOCAL[6]}/64"]
        self.routes = [Route(ipaddress.ip_network(network)) for network in ("10.0.0.0/24", "fd00::/64")]
        self.routes += [
            Route(ipaddress.ip_network(network), ipaddress.ip_address(gateway))
            for network, gateway in (("0.0.0.0/0", GATEWAY[4]), ("::/0", GATEWAY[6]))
        ]
        self.known: dict[str, bytes] = {}
        low, high = PORTS
        super().__init__(**{"shared": True, "port_low": low, "port_high": high, **options})

    def give_addresses(self) -> None:
        self._write()
        for stack in self.stacks:
            stack.share(self.table)

    def tell(self) -> None:
        """The kernel writes what it knows, and the host is told that it did."""
        self._write()
        for stack in self.stacks:
            stack.follow()
        self.turn()

    def questions(self) -> list[str]:
        """Whose Ethernet addresses the kernel is to find out, since the last time."""
        return [address for stack in self.stacks for address in stack.questions()]

    def _write(self) -> None:
        addresses = [ipaddress.ip_interface(address) for address in self.addresses]
        neighbours = {mapped_ip(ip): mac for ip, mac in self.known.items()}
        assert write_table(self.table, addresses, self.routes, neighbours) == 0
