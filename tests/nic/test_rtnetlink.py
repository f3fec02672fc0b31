"""What the kernel says of an interface, and that it cannot be asked is another answer than that there is none."""

from __future__ import annotations

import errno
import socket

import pytest
from support.limits import no_descriptor_left

from usnet_framework.shards.qdisc import root_qdisc
from usnet_framework.shards.rtnetlink import index_of, link, name_of


def test_an_interface_has_a_number() -> None:
    assert index_of("lo") == 1
    assert name_of(1) == "lo"


def test_there_is_no_interface_with_the_number() -> None:
    for index in (0, 1 << 30):
        with pytest.raises(OSError, match="No such device") as refusal:
            name_of(index)
        assert refusal.value.errno == errno.ENODEV


@pytest.mark.parametrize("name", ["usnet-none", "lo-with-a-very-long-name"])
def test_there_is_no_such_interface(name: str) -> None:
    for ask in (index_of, link):
        with pytest.raises(OSError, match="No such device") as refusal:
            ask(name)
        assert refusal.value.errno == errno.ENODEV


def test_without_a_descriptor_to_ask_with_nobody_says_that_there_is_none() -> None:
    with no_descriptor_left():
        for ask in (index_of, link):
            with pytest.raises(OSError, match="Too many open files"):
                ask("lo")
        with pytest.raises(OSError, match="Too many open files"):
            name_of(1)


def test_a_kernel_that_does_not_answer_is_an_error_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand in findings and in the log."""

    class Silent(socket.socket):
        def recv(self, *_: int) -> bytes:
            raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "socket", Silent)
    for ask in (link, root_qdisc):
        with pytest.raises(OSError, match="the kernel has not answered for 1 s") as refusal:
            ask("lo")
        assert refusal.value.errno == errno.ETIMEDOUT
