"""The AF_XDP device as its supervisor has it, step by step; servers over it: tests/sockets."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.backends import Afxdp as Pair
from support.backends import network_namespace
from support.limits import no_descriptor_left
from support.link import ip
from support.privilege import needs_xdp
from support.silent_kernel import silent_kernel
from support.until import until

from usnet_framework._native_bpf import XdpProgram
from usnet_framework._native_xdp import Queue, XdpError, xdp_socket
from usnet_framework.errors import StartupError
from usnet_framework.shards import afxdp, joining, rtnetlink, station
from usnet_framework.shards.afxdp import FRAME_BYTES, Afxdp
from usnet_framework.shards.joining import NotYet
from usnet_framework.shards.listeners import parse_binds
from usnet_framework.shards.nic import Nic, Wanted
from usnet_framework.shards.stackplan import plan_stack

pytestmark = needs_xdp

FRAMES = 8192


def test_a_station_that_could_not_join_its_groups_does_so_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its neighbours would not find it by IPv6, and nothing would say why."""

    async def join() -> None:
        frames = os.memfd_create("frames")
        os.ftruncate(frames, FRAMES * FRAME_BYTES)
        device = Afxdp(plan_stack(Pair.interface, ["10.77.0.1/24"], [], parse_binds(["tcp://*:7000"]), "afxdp"), 1)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(station, "_PACKET_ADD_MEMBERSHIP", 99)
                with pytest.raises(StartupError, match="does not take a second MAC address"):
                    device.hand_down(0, frames)
            device.hand_down(0, frames)
            assert f"3333ff{device._mac[3:].hex()}" in Path("/proc/thread-self/net/dev_mcast").read_text()
            assert device.trouble() is None
        finally:
            device.close()
            os.close(frames)

    with network_namespace():
        Pair().connect("1")
        asyncio.run(join())


@contextmanager
def joined() -> Iterator[Afxdp]:
    frames = os.memfd_create("frames")
    os.ftruncate(frames, FRAMES * FRAME_BYTES)
    device = Afxdp(plan_stack(Pair.interface, ["10.77.0.1/24"], [], parse_binds(["tcp://*:7000"]), "afxdp"), 1)
    try:
        device.hand_down(0, frames)
        yield device
    finally:
        device.close()
        os.close(frames)


def test_a_kernel_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen last is said until there is an answer."""

    async def look() -> None:
        with joined() as device:
            await device._looks.ask()
            with silent_kernel(monkeypatch):
                ip("link", "set", Pair.interface, "down")
                assert [device.trouble() for _ in range(3)] == [None] * 3
                assert all(finding.ok for finding in device.findings() if finding.what == "interface")
                assert not device._looks.ask().done()
            await device._looks.ask()
            assert device.trouble() == f"interface {Pair.interface} is down"

    with network_namespace():
        Pair().connect("1")
        asyncio.run(look())


def test_for_want_of_a_descriptor_nobody_says_that_there_is_no_interface() -> None:
    with network_namespace():
        Pair().connect("1")
        program, memory = XdpProgram(), os.memfd_create("notes")
        with mmap.mmap(-1, FRAMES * FRAME_BYTES) as frames, closing(program):
            queue = Queue(Pair.interface, 0, bytes(6), 1500)
            with no_descriptor_left(but=1), pytest.raises(XdpError, match=r"bound to queue .*: Too many open files"):
                xdp_socket(queue, frames, FRAMES, FRAME_BYTES, memory)
            with no_descriptor_left(), pytest.raises(OSError, match=r"be attached to .*: Too many open files"):
                program.attach(Pair.interface, native=True)
        os.close(memory)


def test_an_interface_that_cannot_be_asked_for_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor to ask with."""

    def refuse(index: int) -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def look() -> None:
        with joined() as device, monkeypatch.context() as patched:
            patched.setattr(rtnetlink, "name_of", refuse)
            (finding,) = device.findings()
            assert not finding.ok
            assert finding.reason.endswith("cannot be read: Too many open files")

    with network_namespace():
        Pair().connect("1")
        asyncio.run(look())


class SlowDriver:
    """Of cards that are set up from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_answer = threading.Event()
        self.is_asked = threading.Event()
        monkeypatch.setattr(afxdp, "Nic", self._nic)

    def _nic(self, wanted: Wanted) -> Nic:
        self.is_asked.set()
        assert threading.current_thread() is not threading.main_thread(), "the loop that serves others waits for it"
        assert self.may_answer.wait(60)
        return Nic(wanted)


def put_back_another() -> None:
    pair = Pair()
    pair.remove()
    pair.connect("1")


def test_an_interface_that_is_back_is_set_up_while_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def join_again() -> None:
        with joined() as device:
            before, frames = device.hand_down(0, device._frames[0]), device._frames[0]
            put_back_another()
            driver = SlowDriver(monkeypatch)
            for _ in range(2):
                with pytest.raises(NotYet, match="is being joined again"):
                    device.hand_down(0, frames)
            assert driver.is_asked.wait(60)
            assert device.trouble() == f"interface {Pair.interface} is being joined again"
            (finding,) = device.findings()
            assert not finding.ok
            assert device.modes() == {}
            driver.may_answer.set()
            await until(lambda: not device._joining.is_under_way)
            assert len(device.hand_down(0, frames)) == len(before)
            assert device.trouble() is None
            put_back_another()
            with pytest.raises(NotYet):
                device.hand_down(0, frames)
            await until(lambda: not device._joining.is_under_way)
            assert len(device.hand_down(0, frames)) == len(before)

    with network_namespace():
        Pair().connect("1")
        asyncio.run(join_again())


def test_why_an_interface_that_is_back_cannot_be_set_up_is_said_and_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def join_again() -> None:
        with joined() as device:
            frames = device._frames[0]
            put_back_another()
            with monkeypatch.context() as patched:
                patched.setattr(station, "_PACKET_ADD_MEMBERSHIP", 99)
                with pytest.raises(NotYet):
                    device.hand_down(0, frames)
                await until(lambda: not device._joining.is_under_way)
                with pytest.raises(StartupError, match="does not take a second MAC address"):
                    device.hand_down(0, frames)
            with pytest.raises(NotYet):
                device.hand_down(0, frames)
            await until(lambda: not device._joining.is_under_way)
            device.hand_down(0, frames)
            assert device.trouble() is None

    with network_namespace():
        Pair().connect("1")
        asyncio.run(join_again())


def test_without_a_thread_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def join_again() -> None:
        with joined() as device:
            put_back_another()
            with monkeypatch.context() as patched:
                patched.setattr(threading.Thread, "start", refuse)
                with pytest.raises(StartupError, match="can't start new thread"):
                    device.hand_down(0, device._frames[0])
            with pytest.raises(NotYet):
                device.hand_down(0, device._frames[0])
            await until(lambda: not device._joining.is_under_way)
            device.hand_down(0, device._frames[0])

    with network_namespace():
        Pair().connect("1")
        asyncio.run(join_again())


def test_a_server_that_ends_leaves_a_card_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(joining, "CLOSE_S", 0.01)

    async def end() -> None:
        with joined() as device:
            put_back_another()
            driver = SlowDriver(monkeypatch)
            with pytest.raises(NotYet):
                device.hand_down(0, device._frames[0])
            assert driver.is_asked.wait(60)
            device.close()
            driver.may_answer.set()
            await until(lambda: not device._joining.is_under_way)
            monkeypatch.setattr(device, "close", device._end)  # of what a process that ends leaves to the kernel

    with network_namespace():
        Pair().connect("1")
        asyncio.run(end())
    assert f"interface {Pair.interface} is being joined still, and left as it is" in caplog.text
