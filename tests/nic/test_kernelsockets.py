"""Where the kernel has sockets, asked of itself and read from /proc: the same, and no more than was asked for."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest
from support.backends import network_namespace
from support.privilege import needs_network_namespaces

from usnet_framework.shards import kernelsockets
from usnet_framework.shards.kernelsockets import TABLES, listed_ends, local_ends

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / TABLES[0]).parent.mkdir(parents=True)
    for table in TABLES:
        (tmp_path / table).write_text(HEAD)
    return tmp_path


@pytest.mark.parametrize(
    ("table", "local", "state", "found"),
    [
        (0, "0100000A:2328", "01", "10.0.0.1"),  # established
        (0, "0100000A:2328", "06", None),  # in TIME-WAIT
        (0, "0100000A:2327", "01", None),  # 8999
        (0, "0100000A:238C", "01", None),  # 9100
        (0, "00000000:2328", "0A", "0.0.0.0"),  # listening
        (1, "00000000000000000000000000000000:2328", "0A", "::"),
        (1, "0000000000000000FFFF00000100000A:2328", "01", "10.0.0.1"),  # ::ffff:10.0.0.1
        (1, "000000FD000000000000000001000000:2328", "01", "fd00::1"),
    ],
)
def test_tables_of_proc_are_read(root: Path, table: int, local: str, state: str, found: str | None) -> None:
    rest = "00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1"
    (root / TABLES[table]).write_text(f"{HEAD}   0: {local} 0200000A:01BB {state} {rest}\n")
    assert list(listed_ends([(8000, 8000), (9000, 9099)], root)) == ([(ip_address(found), 9000)] if found else [])


def test_without_ipv6_there_is_one_table(root: Path) -> None:
    (root / TABLES[1]).unlink()
    assert list(listed_ends([(9000, 9099)], root)) == []


def ends(*ports: tuple[int, int]) -> list[tuple[str, int]]:
    return sorted((str(ip), port) for ip, port in local_ends(*ports))


@needs_network_namespaces
@pytest.mark.parametrize("protocol", [kernelsockets.NETLINK_SOCK_DIAG, 31])
def test_the_kernel_tells_what_is_at_ports_and_nothing_else(protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other protocol does not exist: the kernel has no sock_diag."""
    monkeypatch.setattr(kernelsockets, "NETLINK_SOCK_DIAG", protocol)
    with network_namespace(), ExitStack() as opened:
        dual = opened.enter_context(socket.create_server(("::", 9000), family=socket.AF_INET6, dualstack_ipv6=True))
        opened.enter_context(socket.create_server(("127.0.0.1", 9001)))
        bound = opened.enter_context(socket.socket())
        bound.bind(("127.0.0.1", 9002))
        for host in ("127.0.0.1", "::1"):
            opened.enter_context(socket.create_connection((host, 9000)))
            opened.enter_context(dual.accept()[0])
        assert ends((9000, 9000)) == [("127.0.0.1", 9000), ("::", 9000), ("::1", 9000)]
        assert ends((9000, 9002)) == [("127.0.0.1", 9000), ("127.0.0.1", 9001), ("::", 9000), ("::1", 9000)]
        assert ends((9002, 9999)) == []
        assert ends((8000, 8999), (9001, 9001), (9002, 9999)) == [("127.0.0.1", 9001)]
        assert ends((9001, 9001), (9000, 9000)) == ends((9000, 9001))
        opened.enter_context(socket.create_server(("127.0.0.1", 64)))
        assert ends(*((port, port) for port in range(64, 128))) == [("127.0.0.1", 64)]


def test_a_kernel_that_does_not_answer_is_not_asked_in_a_slower_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(kernelsockets, "_asked_for", silent)
    with pytest.raises(TimeoutError):
        local_ends((9000, 9000))


@needs_network_namespaces
def test_what_is_in_time_wait_is_left_out() -> None:
    with network_namespace(), socket.create_server(("127.0.0.1", 9000)) as listener:
        with socket.create_connection(("127.0.0.1", 9000)) as client:
            accepted, _ = listener.accept()
            accepted.close()
            assert client.recv(1) == b""
        assert local_ends((9000, 9000)) == [(ip_address("127.0.0.1"), 9000)]  # the listener
