"""Outgoing ports are put into the machine's list of reserved ones and taken out again, whatever else is in it."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import socket
from pathlib import Path

import pytest
from support.backends import network_namespace
from support.privilege import needs_network_namespaces

from usnet_framework.errors import StartupError
from usnet_framework.shards import outgoing
from usnet_framework.shards.cgroup import listed
from usnet_framework.shards.outgoing import alone

OURS = ipaddress.ip_address("127.0.0.1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / outgoing.RESERVED).parent.mkdir(parents=True)
    say(tmp_path, "\n")
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
        outgoing.check_free((9149, 9200), root=root)
    outgoing.check_free((9151, 9200), root=root)


def test_what_a_server_before_us_has_left_reserved_is_free(root: Path) -> None:
    say(root, "9000-9099\n")
    outgoing.check_free((9000, 9199), [(9000, 9099)], root)


def test_of_a_range_that_somebody_has_taken_a_part_out_of_the_rest_is_ours(root: Path) -> None:
    say(root, "8080,9050-9120\n")
    assert not outgoing.is_reserved((9000, 9099), root)
    assert outgoing.is_touched((9000, 9099), root)
    outgoing.reserve((9000, 9099), False, root)
    assert said(root) == "8080,9100-9120\n"
    assert not outgoing.is_touched((9000, 9099), root)


@needs_network_namespaces
@pytest.mark.parametrize(
    ("host", "port", "is_used"),
    [
        ("127.0.0.1", 9000, True),
        ("127.0.0.1", 9099, True),
        ("0.0.0.0", 9050, True),
        ("::", 9050, True),
        ("127.0.0.1", 8999, False),
        ("127.0.0.1", 9100, False),
        ("127.0.0.2", 9050, False),
    ],
)
def test_ports_at_which_the_kernel_has_sockets_are_refused(host: str, port: int, is_used: bool) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with network_namespace(), socket.create_server((host, port), family=family):
        if is_used:
            with pytest.raises(StartupError, match=f"the kernel has connections at {port};"):
                outgoing.check_unused((9000, 9099), [OURS])
        else:
            outgoing.check_unused((9000, 9099), [OURS])


@needs_network_namespaces
def test_servers_change_the_list_one_at_a_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between reading and writing it, another one's change would be lost. One that holds on for too long is named."""
    with network_namespace():
        with alone:
            outgoing.reserve((9000, 9099), True, root)  # once more by the same one
        with outgoing.lock_path().open("r+") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            monkeypatch.setattr(outgoing, "PATIENCE_S", 0.0)
            with pytest.raises(OSError, match=r"another server has had .*-outgoing-ports.lock locked") as refused:
                outgoing.reserve((9100, 9199), True, root)
            assert refused.value.errno == errno.EBUSY
            assert said(root) == "9000-9099\n"
            monkeypatch.setattr(outgoing, "PATIENCE_S", 30.0)
            monkeypatch.setattr(outgoing.time, "sleep", lambda _: other.close())  # while we wait
            outgoing.reserve((9100, 9199), True, root)
    assert said(root) == "9000-9199\n"


@needs_network_namespaces
def test_nobody_else_can_keep_servers_from_changing_the_list(root: Path) -> None:
    """Whoever can open the file can lock it."""
    with network_namespace():
        outgoing.lock_path().unlink(missing_ok=True)
        outgoing.reserve((9000, 9099), True, root)
        assert outgoing.lock_path().stat().st_mode & 0o077 == 0
        assert outgoing.lock_path().parent.stat().st_mode & 0o077 == 0


@needs_network_namespaces
def test_each_network_namespace_has_a_lock_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "PATIENCE_S", 0.0)
    with network_namespace():
        with alone:
            pass  # the file is there from now on
        with outgoing.lock_path().open("r+") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with network_namespace():
                outgoing.reserve((9000, 9099), True, root)
            with pytest.raises(OSError, match="another server has had"):
                outgoing.reserve((9100, 9199), True, root)
    assert said(root) == "9000-9099\n"


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
