"""The interrupts of a card's queues are told by their names, on invented machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from usnet_framework.shards import sysfs
from usnet_framework.shards.interrupts import Interrupt, are_put_off, interrupts, is_balanced, share_one_core

LINES = ("      CPU0", " 24:  5  PCI-MSIX  0-edge  eth0-TxRx-0", " 25:  7  PCI-MSIX  1-edge  eth0-TxRx-1")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """eth0 is a card on the PCI bus, eth1 one of virtio, which is a device on such a one."""
    monkeypatch.setattr(sysfs, "index_of", {"eth0": 2, "eth1": 3}.__getitem__)
    pci = tmp_path / "sys/devices/pci0000:00/0000:00:03.0"
    for device, name, index in ((pci, "eth0", 2), (pci / "virtio1", "eth1", 3)):
        folder = tmp_path / "sys/class/net" / name
        folder.mkdir(parents=True)
        device.mkdir(parents=True)
        (folder / "device").symlink_to(device)
        (folder / "ifindex").write_text(f"{index}\n")
    (pci / "msi_irqs").mkdir()
    for number, cores in ((24, "0"), (25, "1"), (126, "0-3")):
        (pci / "msi_irqs" / str(number)).write_text("msix\n")
        (tmp_path / f"proc/irq/{number}").mkdir(parents=True)
        (tmp_path / f"proc/irq/{number}/smp_affinity_list").write_text(f"{cores}\n")
    (tmp_path / "proc/interrupts").write_text("\n".join(LINES))
    return tmp_path


def test_interrupts_are_found_with_the_cores_that_they_go_to(machine: Path) -> None:
    found = interrupts("eth0", machine)
    assert found == interrupts("eth1", machine)
    assert [(one.name, one.cores, one.queue) for one in found] == [
        ("eth0-TxRx-0", "0", 0),
        ("eth0-TxRx-1", "1", 1),
        ("126", "0-3", None),
    ]
    assert Path(found[0].file).read_text() == "0\n"


def test_an_interface_of_another_network_namespace_has_none(machine: Path) -> None:
    (machine / "sys/class/net/eth0/ifindex").write_text("9\n")
    assert interrupts("eth0", machine) == ()


@pytest.mark.parametrize(
    ("name", "queue"),
    [
        ("eth1-TxRx-3", 3),
        ("iavf-eth1-TxRx-10", 10),
        ("eth1-Tx-Rx-2", 2),
        ("eth1-rxtx-1", 1),
        ("eth1-rx-0", 0),
        ("virtio1-input.1", 1),
        ("virtio1-output.1", 1),
        ("mlx5_comp7@pci:0000:03:00.0", 7),
        ("mlx5_async0@pci:0000:03:00.0", None),
        ("virtio1-config", None),
        ("eth1", None),
    ],
)
def test_the_queue_is_in_the_name(machine: Path, name: str, queue: int | None) -> None:
    (machine / "proc/interrupts").write_text(f" 24:  5  PCI-MSIX  0-edge  {name}\n")
    assert interrupts("eth0", machine)[0].queue == queue


SHARED = [(["0", "0"], True), (["0", "1"], False), (["0"], False), (["0-1", "0-1"], False)]


@pytest.mark.parametrize(("cores", "shared"), SHARED)
def test_queues_share_a_core(cores: list[str], shared: bool) -> None:
    found = [Interrupt(f"rx-{queue}", "", core, queue) for queue, core in enumerate(cores)]
    assert share_one_core([*found, replace(found[0], name="tx-0")]) == shared


@pytest.mark.parametrize(("name", "runs"), [("irqbalance", True), ("sshd", False)])
def test_irqbalance_is_known_by_its_socket_and_its_name(machine: Path, name: str, runs: bool) -> None:
    assert not is_balanced(machine)
    (machine / "run/irqbalance").mkdir(parents=True)
    (machine / "run/irqbalance/irqbalance77.sock").write_text("")
    assert not is_balanced(machine)  # it was killed
    (machine / "proc/77").mkdir()
    (machine / "proc/77/comm").write_text(f"{name}\n")
    assert is_balanced(machine) == runs


@pytest.mark.parametrize(("index", "hard_irqs", "timeout", "expected"), [
    (1, "2", "200000", True), (1, "0", "200000", False), (1, "2", "0", False), (9, "2", "200000", False),
])  # fmt: skip
def test_they_are_put_off_by_two_settings(
    tmp_path: Path, index: int, hard_irqs: str, timeout: str, expected: bool
) -> None:
    folder = tmp_path / "sys/class/net/lo"
    folder.mkdir(parents=True)
    for name, text in (("ifindex", str(index)), ("napi_defer_hard_irqs", hard_irqs), ("gro_flush_timeout", timeout)):
        (folder / name).write_text(f"{text}\n")
    assert are_put_off("lo", tmp_path) == expected
