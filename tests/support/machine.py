"""A machine that QEMU emulates, with network cards of real drivers; tools/lab_fetch.sh gets its parts.

    Intel 82576   (igb) eight queues; RSS, zero-copy AF_XDP
    virtio-net    four queues; RSS, which QEMU does in software
    virtio-net    four queues, and no RSS: the host's TAP interface chooses them in a way of its own

The host's ends of their cables are TAP interfaces in the network namespace of the thread that starts the machine. The
guest has no disk: its root is the host's own, read-only, under a tmpfs, so that it runs this checkout's virtual
environment. What is run in it is asked for over a virtual serial port of the guest's (tests/lab/agent.py).

The guest runs on KVM where that works. Where it does not, the guest is an order of magnitude slower than the host; its
clock is right."""

from __future__ import annotations

import json
import lzma
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.link import ip
from support.server import WITH_THE_TEST
from support.tree import ROOT

PARTS = Path(os.environ.get("USNET_LAB", ROOT / "build/lab"))
"""Checkouts may share them."""

BOOT_S = 600.0
"""It takes ten or so; as long as others keep the host busy, it takes minutes."""

KVM_BOOT_S = 20.0
"""It takes two."""
ANSWER_S = 300.0
MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "virtio_net", "igb")
"""And those that they depend on; what is built in is left out."""


@dataclass(frozen=True)
class Cable:
    """One card: its interface in the guest and the host's end, with their addresses."""

    guest: str
    host: str
    mac: str
    network: int
    """10.N.0.0/24 and fdN::/64."""
    queues: int
    """Of the host's end."""

    @property
    def guest_addresses(self) -> tuple[str, str]:
        """Of the guest's kernel, IPv4 and IPv6."""
        return self._addresses(1)

    @property
    def host_addresses(self) -> tuple[str, str]:
        return self._addresses(2)

    @property
    def our_addresses(self) -> tuple[str, str]:
        """In the guest, of a server's own stack."""
        return self._addresses(10)

    def _addresses(self, number: int) -> tuple[str, str]:
        return f"10.{self.network}.0.{number}", f"fd{self.network}::{number}"


QUEUES = 4
VIRTIO = Cable("virtio0", "ust0", "02:00:00:00:10:01", 78, QUEUES)
IGB = Cable("igb0", "ust1", "02:00:00:00:10:02", 79, 1)
PLAIN = Cable("virtio1", "ust2", "02:00:00:00:10:03", 80, QUEUES)
CABLES = (VIRTIO, IGB, PLAIN)

VIRTIO_CARD = (
    "virtio-net-pci,mq=on,vectors=18,"
    "guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off"  # with them there is no native XDP
)

INIT = """#!/bin/busybox sh
busybox mkdir -p /proc /sys /dev /host /over /root
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
for module in $(busybox cat /modules/order); do busybox insmod /modules/$module || echo "lab: no $module"; done
busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /host
busybox mount -t tmpfs tmpfs /over
busybox mkdir /over/upper /over/work
busybox mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work overlay /root
busybox mount -t proc proc /root/proc
busybox mount -t sysfs sysfs /root/sys
busybox mount -t bpf bpf /root/sys/fs/bpf
busybox mount -t devtmpfs devtmpfs /root/dev
busybox mkdir -p /root/dev/shm /root/dev/pts
busybox mount -t tmpfs tmpfs /root/dev/shm
busybox mount -t devpts devpts /root/dev/pts
busybox mount -t tmpfs tmpfs /root/run
busybox mount -t tmpfs tmpfs /root/tmp
busybox chroot /root AGENT
busybox poweroff -f
"""


@dataclass(frozen=True)
class Done:
    """What a command in the guest has come to."""

    status: int
    stdout: str
    stderr: str


class Machine:
    """One that is up. Commands run as root, in the root of this checkout."""

    def __init__(
        self, process: subprocess.Popen[bytes], agent: socket.socket, console: Path, accelerator: str
    ) -> None:
        self._process = process
        self._agent = agent
        self._replies = agent.makefile("r", encoding="utf-8")
        self.console = console
        self.accelerator = accelerator
        """kvm or tcg, QEMU's own."""

    def run(self, *command: str) -> str:
        """What it prints. AssertionError: it fails."""
        done = self.attempt(*command)
        assert done.status == 0, f"{' '.join(command)}: {done.status}\n{done.stdout}{done.stderr}"
        return done.stdout

    def attempt(self, *command: str) -> Done:
        return Done(**self._ask({"run": command}))

    def call(self, function: str, *arguments: Any) -> Any:
        """What a function (module:name) of the package or of the tests returns there, as JSON has it; no process is
        started for it."""
        answer = self._ask({"call": function, "with": arguments})
        assert "returned" in answer, f"{function}: {answer['raised']}"
        return answer["returned"]

    def start(self, *command: str) -> int:
        """In the background, its output in a file of its own: its process id."""
        return int(self._ask({"start": command})["pid"])

    def kill(self, pid: int, signal: int) -> Done:
        """One that was started; how it ended and what it had to say."""
        return Done(**self._ask({"kill": pid, "signal": signal}))

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            self._agent.sendall(json.dumps(request).encode() + b"\n")
            line = self._replies.readline()
        except OSError as error:
            raise AssertionError(f"the machine does not answer: {error}\n{self._said()}") from None
        assert line, f"the machine is gone\n{self._said()}"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def _said(self) -> str:
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-30:])


@contextmanager
def machine() -> Iterator[Machine]:
    """In the network namespace of this thread, which has to be one of the test's own."""
    with tempfile.TemporaryDirectory(prefix="usnet-lab-") as name, ExitStack() as running:
        folder = Path(name)
        _write_initramfs(folder / "initramfs")
        for cable in CABLES:
            _plug_in(cable)
        one = _boot(running, folder)
        for cable in CABLES:
            _configure(one, cable)
        # Of the flows on this card some never arrive, until the key and the table that its driver shows are set once.
        one.call("lab.hold:set_hash_again", VIRTIO.guest)
        yield one


def _boot(running: ExitStack, folder: Path) -> Machine:
    if _has_kvm():
        with suppress(AssertionError):
            return running.enter_context(_booted("kvm", folder, KVM_BOOT_S))
    return running.enter_context(_booted("tcg", folder, BOOT_S))


def _has_kvm() -> bool:
    """A /dev/kvm without a processor that virtualizes is of a kernel that runs guests made for it, and hangs others."""
    processor = set(Path("/proc/cpuinfo").read_text().split())
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and not processor.isdisjoint({"vmx", "svm"})


@contextmanager
def _booted(accelerator: str, folder: Path, patience_s: float) -> Iterator[Machine]:
    """AssertionError: it is not up in time."""
    console, port = folder / "console", folder / "agent"
    command = _command(folder, accelerator)
    with_us = [*WITH_THE_TEST, *command]
    process = subprocess.Popen(with_us, env=os.environ | _environment(), stdin=subprocess.DEVNULL)
    try:
        with _connected(process, port) as agent:
            one = Machine(process, agent, console, accelerator)
            agent.settimeout(patience_s)
            one.run("ip", "link", "set", "lo", "up")
            agent.settimeout(ANSWER_S)
            yield one
    finally:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    libraries = [PARTS / "qemu" / folder / "x86_64-linux-gnu" for folder in ("usr/lib", "lib")]
    return {"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "QEMU_MODULE_DIR": str(libraries[0] / "qemu")}


def _command(folder: Path, accelerator: str) -> list[str]:
    share = PARTS / "qemu/usr/share"
    return [
        *("nice", str(PARTS / "qemu/usr/bin/qemu-system-x86_64")),
        *("-L", str(share / "qemu"), "-L", str(share / "seabios")),
        *("-machine", "q35", "-accel", accelerator, "-cpu", "max", "-smp", str(QUEUES), "-m", "3072"),
        *("-kernel", str(_kernel()), "-initrd", str(folder / "initramfs")),
        *("-append", "console=ttyS0 quiet panic=-1 mitigations=off net.ifnames=0 no_timer_check"),
        *("-display", "none", "-no-reboot", "-nodefaults", "-serial", f"file:{folder / 'console'}"),
        *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
        *("-chardev", f"socket,id=agent,path={folder / 'agent'},server=on,wait=off"),
        *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=agent"),
        *_card(VIRTIO, f"{VIRTIO_CARD},rss=on,hash=on"),
        *_card(IGB, "igb"),
        *_card(PLAIN, VIRTIO_CARD),
    ]


def _card(cable: Cable, device: str) -> list[str]:
    queues = f",queues={cable.queues},vhost=off" if cable.queues > 1 else ""
    tap = f"tap,id={cable.host},ifname={cable.host},script=no,downscript=no{queues}"
    return ["-netdev", tap, "-device", f"{device},netdev={cable.host},mac={cable.mac},romfile="]


def _modules_folder() -> Path:
    (folder,) = [*(PARTS / "guest/usr/lib/modules").glob("*"), *(PARTS / "guest/lib/modules").glob("*")]
    return folder


def _kernel() -> Path:
    inside = _modules_folder() / "vmlinuz"
    return inside if inside.exists() else next((PARTS / "guest/boot").glob("vmlinuz-*"))


@contextmanager
def _connected(process: subprocess.Popen[bytes], port: Path) -> Iterator[socket.socket]:
    """QEMU listens before the guest is up; what is asked meanwhile waits in the port."""
    for _ in range(int(BOOT_S / 0.05)):
        with socket.socket(socket.AF_UNIX) as agent:
            try:
                agent.connect(os.fspath(port))
            except (FileNotFoundError, ConnectionRefusedError):
                assert process.poll() is None, "QEMU has ended"
                _wait(process, 0.05)
                continue
            yield agent
            return
    raise AssertionError("QEMU does not listen")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _plug_in(cable: Cable) -> None:
    """The host's end is there before QEMU, and ends with the namespace."""
    v4, v6 = cable.host_addresses
    ip("tuntap", "add", "dev", cable.host, "mode", "tap", *(["multi_queue"] if cable.queues > 1 else []))
    ip("address", "add", f"{v4}/24", "dev", cable.host)
    ip("address", "add", f"{v6}/64", "dev", cable.host, "nodad")
    ip("link", "set", cable.host, "up")


def _configure(machine: Machine, cable: Cable) -> None:
    """By its MAC address, as the names depend on who is found first."""
    shown = machine.run("ip", "-o", "link")
    (name,) = re.findall(rf"^\d+: (\S+): .* link/ether {cable.mac} ", shown, flags=re.M)
    machine.run("ip", "link", "set", name, "name", cable.guest)
    v4, v6 = cable.guest_addresses
    machine.run("ip", "address", "add", f"{v4}/24", "dev", cable.guest)
    machine.run("ip", "address", "add", f"{v6}/64", "dev", cable.guest, "nodad")
    machine.run("ip", "link", "set", cable.guest, "up")


# The initramfs: busybox, the modules, and what it does with them.


def _write_initramfs(path: Path) -> None:
    modules = _in_order(_modules_folder())
    (busybox,) = [*(PARTS / "guest/bin").glob("busybox"), *(PARTS / "guest/usr/bin").glob("busybox")]
    agent = f"{sys.executable} -P {ROOT / 'tests/lab/agent.py'}"
    files = {
        "init": INIT.replace("AGENT", agent).encode(),
        "bin/busybox": busybox.read_bytes(),
        "modules/order": "\n".join(modules).encode(),
        **{f"modules/{name}": content for name, content in modules.items()},
    }
    with path.open("wb") as archive:
        for number, folder in enumerate(("bin", "modules", "dev")):
            archive.write(_member(number + 1, folder, stat.S_IFDIR | 0o755, b""))
        for number, (name, content) in enumerate(files.items()):
            archive.write(_member(number + 10, name, stat.S_IFREG | 0o755, content))
        archive.write(_member(0, "TRAILER!!!", 0, b""))


def _member(inode: int, name: str, mode: int, content: bytes) -> bytes:
    """Of a cpio archive in its newc format: thirteen numbers in hexadecimal, the name, the content, each filled up to
    four bytes."""
    numbers = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + "".join(f"{number:08x}" for number in numbers).encode() + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def _in_order(folder: Path) -> dict[str, bytes]:
    """The modules that are needed, each behind those that it depends on, unpacked."""
    paths = {path.name.split(".")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")}
    found: dict[str, bytes] = {}

    def take(name: str) -> None:
        if name in paths and f"{name}.ko" not in found:
            content = _unpacked(paths[name])
            depends = re.search(rb"\0depends=([^\0]*)\0", content)
            for other in depends[1].decode().split(",") if depends and depends[1] else ():
                take(other.replace("-", "_"))
            found[f"{name}.ko"] = content

    for name in MODULES:
        take(name)
    return found


def _unpacked(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
