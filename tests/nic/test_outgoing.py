"""Outgoing ports are put into the machine's list of reserved ones and taken out again, whatever else is in it."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from support.backends import network_namespace
from support.privilege import needs_network_namespaces

from usnet_framework.errors import StartupError
from usnet_framework.shards import outgoing
from usnet_framework.shards.cgroup import listed
from usnet_framework.shards.kernelsockets import TABLES

OURS = ipaddress.ip_address("10.0.0.1")
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / outgoing.RESERVED).parent.mkdir(parents=True)
    (tmp_path / TABLES[0]).parent.mkdir(parents=True)
    say(tmp_path, "\n")
    for table in TABLES:
        (tmp_path / table).write_text(HEAD)
    return tmp_path


def say(root: Path, text: str) -> None:
    (root / outgoing.RESERVED).write_text(text)


def said(root: Path) -> str:
    return (root / outgoing.RESERVED).read_text()


def test_a_range_comes_beside_what_others_have_and_goes_again(root: Path) -> None:
    say(root, "8080,9148-9150\n")
    assert not outgoing.is_reserved((9000, 9099), root)
    outgoing.reserve((9000, 9099), True, root)
    assert said(root) == "8080,9000-9099,9148-9150\n"
    assert outgoing.is_reserved((9000, 9099), root)
    outgoing.reserve((9000, 9099), False, root)
    assert said(root) == "8080,9148-9150\n"


def test_neighbouring_ranges_grow_together_and_apart(root: Path) -> None:
    outgoing.reserve((9000, 9099), True, root)
    outgoing.reserve((9100, 9199), True, root)
    assert said(root) == "9000-9199\n"
    outgoing.reserve((9000, 9099), False, root)
    assert said(root) == "9100-9199\n"
    outgoing.reserve((9100, 9199), False, root)
    assert said(root) == "\n"


def test_a_range_that_others_have_a_part_of_is_refused(root: Path) -> None:
    say(root, "8080,9148-9150\n")
    with pytest.raises(StartupError, match=r"--outgoing-ports 9149-9200: 9149-9150 of them are reserved already"):
        outgoing.check_free((9149, 9200), [OURS], root=root)
    outgoing.check_free((9151, 9200), [OURS], root=root)


def test_what_a_server_before_us_has_left_reserved_is_free(root: Path) -> None:
    say(root, "9000-9099\n")
    outgoing.check_free((9000, 9199), [OURS], [(9000, 9099)], root)


def connection(local: str, state: str) -> str:
    rest = "00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1"
    return f"   0: {local} 0200000A:01BB {state} {rest}\n"


@pytest.mark.parametrize(
    ("table", "local", "state", "is_used"),
    [
        (0, "0100000A:2328", "01", True),  # 10.0.0.1:9000, established
        (0, "0100000A:2328", "06", False),  # in TIME-WAIT
        (0, "0100000A:2327", "01", False),  # 8999
        (0, "0100007F:2328", "01", False),  # 127.0.0.1
        (0, "00000000:2328", "0A", True),  # 0.0.0.0, listening
        (1, "00000000000000000000000000000000:2328", "0A", True),  # [::]
        (1, "0000000000000000FFFF00000100000A:2328", "01", True),  # ::ffff:10.0.0.1
        (1, "000000FD000000000000000001000000:2328", "01", False),  # another address
    ],
)
def test_ports_at_which_the_kernel_has_sockets_are_refused(
    root: Path, table: int, local: str, state: str, is_used: bool
) -> None:
    (root / TABLES[table]).write_text(HEAD + connection(local, state))
    if is_used:
        with pytest.raises(StartupError, match="the kernel has connections at 9000;"):
            outgoing.check_free((9000, 9099), [OURS], root=root)
    else:
        outgoing.check_free((9000, 9099), [OURS], root=root)


def test_without_ipv6_there_is_one_table(root: Path) -> None:
    (root / TABLES[1]).unlink()
    outgoing.check_free((9000, 9099), [OURS], root=root)


@needs_network_namespaces
def test_a_long_list_of_the_kernels_is_kept_whole() -> None:
    others = set(range(10001, 16000, 2))
    with network_namespace():
        with Path("/", outgoing.RESERVED).open("w") as file:
            file.write(listed(others))
        assert outgoing.reserved() == others
        outgoing.reserve((42000, 42009), True)
        assert outgoing.reserved() == others | set(range(42000, 42010))
        outgoing.reserve((42000, 42009), False)
        assert outgoing.reserved() == others
