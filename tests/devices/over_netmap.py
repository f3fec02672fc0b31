"""The suite that every device has to pass, over a port of netmap; run by test_netmap.py in a process that takes its
module from a thread of it (support/netmap.py)."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from support.backends import network_namespace
from support.limits import no_descriptor_left
from support.link import ip
from support.netmap import StandIn, wired
from support.privilege import needs_network_namespaces

from usnet_framework._native_device import DeviceError
from usnet_framework._native_netmap import Pair, netmap_file, netmap_port
from usnet_framework.testing.conformance import STATION, Bench, Device, DeviceConformance, Pool
from usnet_framework.testing.offload import Frame


class SwitchFarEnd:
    """At the other end of the wire."""

    carries_offloads = False

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire

    def send(self, frame: Frame) -> bool:
        assert isinstance(frame, bytes)
        with suppress(BlockingIOError):
            self._wire.send(frame)
            return True
        return False

    def receive(self, wait_s: float = 1.0) -> Frame | None:
        if select.select([self._wire], [], [], wait_s)[0]:
            return self._wire.recv(1 << 17)
        return None

    def close(self) -> None:
        pass


class OverNetmap(DeviceConformance):
    port = "vale0:us"
    mtu = 1500
    slots = 128

    @pytest.fixture(autouse=True)
    def _module(self, tmp_path: Path) -> Iterator[None]:
        with ExitStack() as opened:
            near, self.wire = opened.enter_context(wired())
            self.netmap = opened.enter_context(StandIn(tmp_path, near, {"eth1": 2}, self.slots))
            os.environ["TEST_NETMAP"] = str(self.netmap.path)
            yield

    def open(self) -> Bench:
        fd, memory = netmap_file(), os.memfd_create("test", os.MFD_CLOEXEC)
        netmap_port(fd, Pair(self.port, ":" not in self.port, 0, self.mtu, STATION), memory)
        return Bench(Device.netmap_pair(fd, memory), SwitchFarEnd(self.wire), keeps_mtu=True)


class TestSwitch(OverNetmap):
    pass


class TestSwitchWithLargePackets(OverNetmap):
    """In several slots each, both ways."""

    mtu = 9000


class TestCard(OverNetmap):
    port = "eth1"


@needs_network_namespaces
class TestNames:
    """Of ports, as netmap's own library has them."""

    @pytest.fixture(autouse=True)
    def _module(self, tmp_path: Path) -> Iterator[None]:
        with network_namespace(), wired() as (near, _), StandIn(tmp_path, near, {"eth1": 2}) as self.netmap:
            ip("link", "add", "eth1", "type", "veth", "peer", "name", "far")
            os.environ["TEST_NETMAP"] = str(self.netmap.path)
            yield

    def refusal(self, name: str) -> str:
        with pytest.raises(DeviceError) as refused:
            Device.netmap(name)
        assert self.netmap.is_left()
        return str(refused.value)

    def test_the_pair_of_a_card_has_a_number(self) -> None:
        assert self.refusal("eth1") == "eth1 has 2 ring pairs: name the one to use, as in eth1-0"
        assert self.refusal("eth1-2").startswith("netmap port eth1 has no ring 2, ")
        device = Device.netmap("eth1-1")
        assert self.netmap.pairs() == [("eth1", 1)]
        assert device.about.link.mtu == 1500
        device.close()

    def test_a_switch_needs_no_interface(self) -> None:
        device = Device.netmap("vale0:us")
        assert self.netmap.ports() == ["vale0:us"]
        assert device.about.link.mtu == 1500
        device.close()

    def test_what_is_no_port(self) -> None:
        assert self.refusal("eth9") == "eth9 is no interface, and no port of a switch (vale0:us)"
        assert self.refusal("x:y").startswith("netmap knows no port x:y: ")
        assert self.refusal("v" * 64) == "the name of the netmap port is too long"


def test_no_descriptor_is_left_for_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as module:
        module.bind(str(tmp_path / "module"))
        module.listen()
        monkeypatch.setenv("TEST_NETMAP", str(tmp_path / "module"))
        with no_descriptor_left(but=1), pytest.raises(DeviceError) as refused:  # that of the port
            Device.netmap("vale0:us")
    assert refused.value.errno == errno.EMFILE
    assert str(refused.value) == "no memory can be made beside the netmap port: Too many open files"


class TestSharedCard:
    """What is not for our station is the kernel's, and what the kernel sends goes to the card."""

    @pytest.fixture(autouse=True)
    def _module(self, tmp_path: Path) -> Iterator[None]:
        with ExitStack() as opened:
            near, wire = opened.enter_context(wired())
            behind, kernel = opened.enter_context(wired())
            self.netmap = opened.enter_context(StandIn(tmp_path, near, {"eth1": 1}, 128, behind))
            os.environ["TEST_NETMAP"] = str(self.netmap.path)
            self.wire, self.kernel = SwitchFarEnd(wire), SwitchFarEnd(kernel)
            yield

    @contextmanager
    def running(self) -> Iterator[tuple[Device, Pool]]:
        fds = []
        for is_host in (False, True):
            fds += [netmap_file(), os.memfd_create("test", os.MFD_CLOEXEC)]
            netmap_port(fds[-2], Pair("eth1", True, 0, 1500, STATION, shares=True, is_host=is_host), fds[-1])
        with select.epoll() as waits:
            for fd in (fds[0], fds[2]):
                waits.register(fd, select.EPOLLIN)
            device, pool = Device.netmap_pair(*fds[:2]), Pool(64)
            device.carries(fds[2], fds[3], os.dup(waits.fileno()))
        device.attach(pool)
        yield device, pool
        device.close()
        assert pool.free == 64
        pool.close()

    def test_each_gets_what_is_its_own(self) -> None:
        to_us, to_kernel, to_all = (
            target + b"\x02\0\0\0\0\x77\x88\xb5" + 50 * bytes([number])
            for number, target in enumerate((STATION, b"\x02\0\0\0\0\x66", b"\xff" * 6))
        )
        with self.running() as (device, pool):
            for frame in (to_us, to_kernel, to_all):
                assert self.wire.send(frame)
            got = []
            while len(got) < 2:
                assert not device.sleep() or select.select([device.about.fd], [], [], 5)[0]
                for received in device.peek():
                    got.append(pool.look(received.frame).data)
                    device.release(1)
                    pool.drop(received.frame)
            assert got == [to_us, to_all]
            device.sleep()  # their slots are handed back
            assert [self.kernel.receive(5), self.kernel.receive(5)] == [to_kernel, to_all]
            assert device.counters()["rx_passed"] == 2

    def test_the_kernel_sends_through_it(self) -> None:
        frames = [b"\x02\0\0\0\0\x77\x02\0\0\0\0\x66" + bytes([number]) * 88 for number in range(100)]
        with self.running() as (device, _):
            assert device.sleep()
            for frame in frames:
                assert self.kernel.send(frame)
            got = []
            while len(got) < len(frames):
                assert device.peek() == []
                device.sleep()
                while (frame := self.wire.receive(0)) is not None:
                    got.append(frame)
                assert len(got) == len(frames) or select.select([device.about.fd], [], [], 5)[0]
            assert got == frames
            assert device.counters()["tx_passed"] == len(frames)

    def test_half_of_the_slots_are_left_to_our_own_packets(self) -> None:
        with self.running() as (device, _):
            self.netmap.keeps = True
            for number in range(100):
                assert self.kernel.send(bytes([2]) * 60 + bytes([number]))
            while (counters := device.counters())["tx_passed"] + counters["tx_errors"] < 100:
                device.sleep()
            assert counters["tx_passed"] == 63
            assert device.reserve(64) == 64
            self.netmap.keeps = False
            assert self.kernel.send(bytes(60))
            while device.counters()["tx_passed"] < 64:
                device.sleep()
