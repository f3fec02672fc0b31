"""The netmap device as its supervisor has it, step by step, on an interface that is there, without the module; servers
over it: tests/sockets."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import pytest
from support.backends import network_namespace
from support.fake_card import FakeCard
from support.link import ip
from support.privilege import needs_network_namespaces
from support.silent_kernel import silent_kernel
from support.until import until

from usnet_framework._native_netmap import About, Pair
from usnet_framework.shards import netmap, rtnetlink
from usnet_framework.shards.ethtool import FIELDS
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.joining import NotYet
from usnet_framework.shards.listeners import parse_binds
from usnet_framework.shards.netmap import Netmap
from usnet_framework.shards.stackplan import plan_stack
from usnet_framework.shards.steering import steering_key, steering_table

pytestmark = needs_network_namespaces

CARD, RENAMED = "usnet0", "card1"
NO_FRAMES = -1


@pytest.fixture(autouse=True)
def _interface(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With a ring pair."""
    monkeypatch.setattr(netmap, "netmap_file", lambda: os.eventfd(0, os.EFD_CLOEXEC))
    monkeypatch.setattr(netmap, "netmap_port", lambda fd, pair, memory: About(1, 1, 256, 256, 2048))
    with network_namespace():
        make("far0")
        yield


def make(peer: str) -> None:
    one = ("numrxqueues", "1", "numtxqueues", "1")
    ip("link", "add", CARD, *one, "type", "veth", "peer", "name", peer, *one)
    for name in (CARD, peer):
        ip("link", "set", name, "up")


def rename() -> None:
    ip("link", "set", CARD, "down")
    ip("link", "set", CARD, "name", RENAMED)
    ip("link", "set", RENAMED, "up")


@contextmanager
def joined(queues: int = 1) -> Iterator[Netmap]:
    device = Netmap(plan_stack(CARD, ["10.77.0.1/24"], [], parse_binds(["tcp://*:7000"]), "netmap"), queues)
    try:
        device.hand_down(0, NO_FRAMES)
        yield device
    finally:
        device.close()


def interface(device: Netmap) -> Finding:
    (found,) = (finding for finding in device.findings() if finding.what == "interface")
    return found


def test_a_card_puts_flows_into_the_rings_of_their_owners(card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked to before it is in netmap mode, and once more when it is; its settings come back after that."""
    before, said, close = deepcopy(card), card.said, os.close

    def register(_fd: int, _pair: Pair, _memory: int) -> About:
        said.append("pair")
        return About(2, 2, 256, 256, 2048)

    def close_one(fd: int) -> None:
        said.append("closed")
        close(fd)

    async def serve() -> None:
        with joined(2) as device:
            assert card.hash.key == steering_key(40)
            assert card.hash.table == steering_table(128, 2)
            assert card.hashed == {"tcp4": frozenset(FIELDS), "tcp6": frozenset(FIELDS)}
            made = [what for what in said if what != "closed"]
            assert made == ["rx-lro", "hash", "tcp4", "tcp6", *3 * ["pair"], "hash"]  # the last pair is the kernel's
            assert [one.ok for one in device.findings() if one.what in ("card queues", "card steering")] == [True] * 2
            said.clear()

    monkeypatch.setattr(netmap, "netmap_port", register)
    monkeypatch.setattr(os, "close", close_one)
    asyncio.run(serve())
    monkeypatch.undo()
    assert "closed" in said
    assert said.index("tcp6") > max(place for place, what in enumerate(said) if what == "closed")
    assert (card.hash, card.hashed, card.offloads) == (before.hash, before.hashed, before.offloads)


def test_a_card_whose_driver_takes_no_hash_is_served(card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows cross to their owner, and doctor says so."""
    async def serve() -> None:
        with joined(2) as device:
            (steering,) = (finding for finding in device.findings() if finding.what == "card steering")
            assert not steering.ok
            assert steering.in_force == "flows come through any queue and are handed over"

    card.refuses = {"set_rss"}
    monkeypatch.setattr(netmap, "netmap_port", lambda _fd, _pair, _memory: About(2, 2, 256, 256, 2048))
    asyncio.run(serve())


def test_without_a_descriptor_to_ask_with_nobody_says_that_it_was_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device would be opened again, and its queues be lost."""

    def refuse(_: int | str) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def ask() -> None:
        with joined() as device, monkeypatch.context() as patched:
            patched.setattr(rtnetlink, "name_of", refuse)
            patched.setattr(rtnetlink, "index_of", refuse)
            patched.setattr("socket.if_nametoindex", refuse)
            assert device.trouble() == "the settings of the interface cannot be read: Too many open files"
            assert not interface(device).ok
            with pytest.raises(OSError, match="Too many open files"):
                device.hand_down(0, NO_FRAMES)

    asyncio.run(ask())


def test_a_card_that_is_renamed_is_served_on_and_one_that_gets_its_name_is_left_alone() -> None:
    async def ask() -> None:
        with joined() as device:
            pair = device.hand_down(0, NO_FRAMES)
            rename()
            make("far1")
            assert device.hand_down(0, NO_FRAMES) == pair
            await device._looks.ask()
            assert device.trouble() is None
            found = interface(device)
            assert found.in_force.startswith(f"{RENAMED}, with our station ")
            assert found.reason == "it was renamed since the server started"
            ip("link", "set", RENAMED, "down")
            await device._looks.ask()
            assert device.trouble() == f"interface {RENAMED} is down"

    asyncio.run(ask())


def test_a_card_that_was_renamed_and_removed_is_joined_by_its_first_name(caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> None:
        with joined() as device:
            rename()
            await device._looks.ask()
            assert device.trouble() is None
            ip("link", "delete", RENAMED)
            assert device.trouble() == f"interface {RENAMED} was removed"
            assert interface(device).fix == "put it back; the server joins it then"
            make("far1")
            with pytest.raises(NotYet, match="is being joined again"):
                device.hand_down(0, NO_FRAMES)
            await until(lambda: not device._joining.is_under_way)
            device.hand_down(0, NO_FRAMES)
            assert device.trouble() is None
            assert interface(device).ok

    asyncio.run(ask())
    assert caplog.messages == [
        f"interface {CARD} is called {RENAMED} now; it is served as before",
        f"interface {CARD} was removed; it is joined again",
    ]


def test_a_kernel_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen last is said until there is an answer."""

    async def look() -> None:
        with joined() as device:
            await device._looks.ask()
            with silent_kernel(monkeypatch):
                ip("link", "set", CARD, "down")
                assert [device.trouble() for _ in range(3)] == [None] * 3
                assert interface(device).ok
            await device._looks.ask()
            assert device.trouble() == f"interface {CARD} is down"

    asyncio.run(look())


def test_a_card_that_is_back_is_registered_while_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its driver starts it anew for netmap."""
    may_answer, register = threading.Event(), netmap.netmap_port

    def hang(fd: int, pair: Pair, memory: int) -> About:
        assert threading.current_thread() is not threading.main_thread(), "the loop that serves others waits for it"
        assert may_answer.wait(60)
        return register(fd, pair, memory)

    async def join_again() -> None:
        with joined() as device:
            ip("link", "delete", CARD)
            make("far1")
            monkeypatch.setattr(netmap, "netmap_port", hang)
            for _ in range(2):
                with pytest.raises(NotYet):
                    device.hand_down(0, NO_FRAMES)
            assert device.trouble() == f"interface {CARD} is being joined again"
            assert not interface(device).ok
            may_answer.set()
            await until(lambda: not device._joining.is_under_way)
            device.hand_down(0, NO_FRAMES)
            assert device.trouble() is None

    asyncio.run(join_again())
