"""What --tune sets: a pure function of what is found and of where the shards are, made and put back like all else."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from nic.test_undo import killed
from support.fake_card import FakeCard

from usnet_framework.shards import tune
from usnet_framework.shards.ethtool import Rings
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.interrupts import Interrupt
from usnet_framework.shards.nic import Nic, Wanted, planned
from usnet_framework.shards.placement import Wish, plan
from usnet_framework.shards.topology import Core, Topology
from usnet_framework.shards.tune import Surroundings, Tuning, findings, missing, surroundings, tuning_of
from usnet_framework.shards.undo import undo_leftovers

QUEUES = 2
PINNED = Tuning(asked=True, cores=(4, 6), usable=(4, 5, 6, 7))
LOOSE = Tuning(asked=True, cores=(None, None), usable=(4, 5))
ADVICE = replace(PINNED, asked=False)


def irq(queue: int | None, cores: str, name: str = "TxRx") -> Interrupt:
    return Interrupt(f"eth1-{name}-{queue}", f"/proc/irq/{queue}/{name}", cores, queue)


def irq_of(queue: int, file: Path) -> Interrupt:
    return Interrupt(f"TxRx-{queue}", str(file), file.read_text().strip(), queue)


def settings(found: Surroundings, tuning: Tuning = PINNED) -> dict[str, object]:
    return {change.name or change.kind: change.value for change in missing(found, QUEUES, tuning)}


def finding(what: str, found: Surroundings, tuning: Tuning, **refused: str) -> Finding:
    (one,) = (one for one in findings(found, QUEUES, tuning, refused) if one.what == what)
    return one


# Rings.


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        (Rings(256, 256, 4096, 4096), [2048, 1024]),
        (Rings(256, 256, 512, 512), [512, 512]),
        (Rings(4096, 256, 4096, 4096), [4096, 1024]),
        (Rings(2048, 1024, 4096, 4096), None),
    ],
)
def test_rings_hold_what_our_queues_have_places_for_and_never_less_than_before(now: Rings, wanted: object) -> None:
    assert settings(Surroundings("eth1", rings=now)).get("rings") == wanted


def test_without_tune_doctor_names_the_command() -> None:
    one = finding("card rings", Surroundings("eth1", rings=Rings(256, 256, 4096, 4096)), ADVICE)
    assert (one.ok, one.asked, one.in_force) == (True, "any", "256 packets received, 256 sent")
    assert one.fix == "start the server with --tune, or ethtool -G eth1 rx 2048 tx 1024"


def test_with_tune_less_is_told_with_what_the_driver_said() -> None:
    found = Surroundings("eth1", rings=Rings(256, 256, 4096, 4096))
    one = finding("card rings", found, PINNED, rings="Invalid argument")
    assert (one.ok, one.asked) == (False, "2048 packets received, 1024 sent")
    assert one.reason.endswith(": Invalid argument")
    assert one.fix == "ethtool -G eth1 rx 2048 tx 1024"


# Interrupts.


def test_each_queue_s_interrupts_go_to_the_core_of_its_shard() -> None:
    others = (irq(2, "0"), irq(None, "0"))
    found = Surroundings("eth1", interrupts=(irq(0, "0-7"), irq(1, "6"), irq(0, "1", "tx"), *others))
    assert settings(found) == {"/proc/irq/0/TxRx": "4", "/proc/irq/0/tx": "4"}
    one = finding("card interrupts", found, ADVICE)
    assert one.ok
    assert one.fix.endswith("--tune, or echo 4 > /proc/irq/0/TxRx; echo 4 > /proc/irq/0/tx")
    assert not finding("card interrupts", found, PINNED).ok
    there = Surroundings("eth1", interrupts=(irq(0, "4"), irq(1, "6")))
    assert finding("card interrupts", there, PINNED).in_force == "eth1-TxRx-0 to 4, eth1-TxRx-1 to 6"


def test_where_nobody_is_pinned_they_only_have_to_be_spread() -> None:
    assert settings(Surroundings("eth1", interrupts=(irq(0, "0-7"), irq(1, "0-7"))), LOOSE) == {}
    on_one = Surroundings("eth1", interrupts=(irq(0, "0"), irq(1, "0")))
    assert settings(on_one, LOOSE) == {"/proc/irq/0/TxRx": "4", "/proc/irq/1/TxRx": "5"}
    one = finding("card interrupts", on_one, replace(LOOSE, asked=False))
    assert (one.ok, one.reason) == (False, "all go to one core")
    assert settings(on_one, replace(LOOSE, usable=(4,))) == {}


def test_irqbalance_is_told_where_it_undoes_this() -> None:
    there = Surroundings("eth1", interrupts=(irq(0, "4"), irq(1, "6")), is_balanced=True)
    one = finding("card interrupts", there, PINNED)
    assert (one.ok, one.reason, one.fix) == (
        True,
        "irqbalance runs, and may move them",
        "stop irqbalance, or ban them from it",
    )
    moved = replace(there, interrupts=(irq(0, "3"), irq(1, "6")))
    one = finding("card interrupts", moved, PINNED)
    assert not one.ok
    assert one.reason.endswith("as irqbalance runs: changed since")
    assert one.fix == "stop irqbalance, or ban them from it; echo 4 > /proc/irq/0/TxRx"


@pytest.mark.parametrize(("layout", "cores"), [("split", (0, 2)), ("inline", (0, 1))])
def test_the_core_of_a_shard_is_that_of_the_process_that_reads_its_queue(layout: str, cores: tuple[int, ...]) -> None:
    machine = Topology(tuple(Core(number, physical=number, l3=0) for number in range(4)))
    placed = plan(machine, Wish(queues=QUEUES, layout=layout))
    assert tuning_of(True, placed) == Tuning(asked=True, cores=cores, usable=(0, 1, 2, 3))
    assert tuning_of(False, plan(machine, Wish(queues=8))).cores == (None,) * 8


# Packets that are handed to other cores.


def rps_of(queue: int) -> str:
    return f"queues/rx-{queue}/rps_cpus"


def test_rps_is_turned_off_for_the_queues_that_are_served() -> None:
    found = Surroundings("eth1", rps=((rps_of(0), "00,000000ff"), (rps_of(1), "00,00000000"), (rps_of(2), "ff")))
    assert settings(found) == {rps_of(0): "00,00000000"}
    assert finding("RPS", found, PINNED).in_force == "rx-0 to cores of the mask 00,000000ff"
    assert finding("RPS", replace(found, rps=found.rps[1:2]), PINNED).in_force == "off"


def test_files_are_those_of_the_interface_in_this_network_namespace(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/net/lo"
    for queue in (10, 2):
        (folder / rps_of(queue)).parent.mkdir(parents=True)
        (folder / rps_of(queue)).write_text(f"{queue:x}\n")
    (folder / "napi_defer_hard_irqs").write_text("0\n")
    (folder / "ifindex").write_text("1\n")
    found = surroundings("lo", None, tmp_path)
    assert found.rps == ((rps_of(2), "2"), (rps_of(10), "a"))
    assert found.polling == (("napi_defer_hard_irqs", "0"),)
    (folder / "ifindex").write_text("7\n")
    found = surroundings("lo", None, tmp_path)
    assert (found.rps, found.polling) == ((), ())


# Processes that do the work of the driver.


def test_with_busy_polling_interrupts_are_put_off_unless_somebody_has_done_so() -> None:
    busy = replace(PINNED, poll="busy")
    found = Surroundings("eth1", polling=(("napi_defer_hard_irqs", "0"), ("gro_flush_timeout", "5000")))
    assert settings(found, busy) == {"napi_defer_hard_irqs": "2"}
    assert finding("polling", found, busy).fix == "echo 2 > /sys/class/net/eth1/napi_defer_hard_irqs"
    done = replace(found, polling=(("napi_defer_hard_irqs", "2"), ("gro_flush_timeout", "5000")))
    assert finding("polling", done, busy) == Finding("polling", "interrupts are put off", "interrupts are put off")
    assert settings(found) == settings(found, replace(busy, asked=False)) == {}


# The other end of a veth pair.


def test_what_sends_into_a_veth_waits_where_it_leaves() -> None:
    found = Surroundings("eth1", sender="clients0")
    assert settings(found) == {"clients0": "pfifo limit 1000"}
    assert finding("qdisc of clients0", found, ADVICE).fix.endswith(
        "--tune, or tc qdisc replace dev clients0 root pfifo limit 1000"
    )
    assert settings(replace(found, qdisc="fq_codel")) == settings(replace(found, qdisc="pfifo limit 1000")) == {}


def test_in_another_network_namespace_it_is_somebody_else_s() -> None:
    found = Surroundings("eth1", sender="")
    assert settings(found) == {}
    one = finding("qdisc of the other end", found, PINNED)
    assert (one.ok, one.fix) == (True, "there: tc qdisc replace dev NAME root pfifo limit 1000")


# Made and put back.


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Files of the interrupts of two queues, which /proc/irq has on a real machine."""
    files = [tmp_path / str(queue) for queue in range(QUEUES)]
    for file in files:
        file.write_text("0-7\n")

    def found(interface: str, rings: Rings | None) -> Surroundings:
        interrupts = (irq_of(queue, file) for queue, file in enumerate(files))
        return Surroundings(interface, rings, tuple(interrupts))

    monkeypatch.setattr(tune, "surroundings", found)
    return files


def texts(files: list[Path]) -> list[str]:
    return [file.read_text() for file in files]


def test_interrupts_are_set_once_the_queues_are_used_and_the_rest_before(
    card: FakeCard, invented: list[Path], tmp_path: Path
) -> None:
    before = deepcopy(card)
    one = Nic(Wanted("lo", QUEUES, tuning=PINNED), tmp_path / "undo")
    assert (card.held.rx, card.held.tx) == (2048, 1024)
    assert texts(invented) == ["0-7\n", "0-7\n"]
    one.tune()
    assert texts(invented) == ["4\n", "6\n"]
    assert all(finding.ok for finding in one.findings() if finding.what in ("card rings", "card interrupts"))
    one.close()
    assert texts(invented) == ["0-7\n", "0-7\n"]
    card.said.clear()
    assert card == before


def test_what_a_killed_server_has_tuned_is_put_back(card: FakeCard, invented: list[Path], tmp_path: Path) -> None:
    one = Nic(Wanted("lo", QUEUES, tuning=PINNED), tmp_path / "undo")
    one.tune()
    killed(one.journal)
    lines = undo_leftovers(tmp_path / "undo")
    assert lines[:2] == [f"{invented[1]}: 6 -> 0-7", f"{invented[0]}: 4 -> 0-7"]
    assert "lo rings: 2048 receiving, 1024 sending -> 256 receiving, 256 sending" in lines
    assert (card.held.rx, texts(invented)) == (256, ["0-7\n", "0-7\n"])


def test_what_is_refused_is_told_and_the_rest_is_made(card: FakeCard, invented: list[Path], tmp_path: Path) -> None:
    card.refuses = {"set_rings"}
    one = Nic(Wanted("lo", QUEUES, tuning=PINNED), tmp_path / "undo")
    one.tune()
    found = {finding.what: finding for finding in one.findings()}
    assert found["card rings"].reason.endswith(": Invalid argument")
    assert found["card interrupts"].ok
    one.close()


def test_check_says_where_the_interrupts_of_more_queues_will_go(card: FakeCard, invented: list[Path]) -> None:
    tuning = Tuning(asked=True, cores=(4, 6, 7), usable=(4, 6, 7))
    last = "lo interrupts of queue 2, once it is there: the driver's -> 7"
    assert planned(Wanted("lo", 3, tuning=tuning))[-1] == last
    for other in (replace(tuning, asked=False), replace(tuning, cores=(None,) * 3)):
        assert last not in planned(Wanted("lo", 3, tuning=other))


def test_check_shows_what_would_be_tuned_and_nothing_without_tune(card: FakeCard, invented: list[Path]) -> None:
    wanted = Wanted("lo", QUEUES, tuning=PINNED)
    needed = planned(replace(wanted, tuning=ADVICE))
    assert planned(wanted)[len(needed) :] == [
        "lo rings: 256 receiving, 256 sending -> 2048 receiving, 1024 sending",
        f"{invented[0]}: 0-7 -> 4",
        f"{invented[1]}: 0-7 -> 6",
    ]
    assert (card.said, texts(invented)) == ([], ["0-7\n", "0-7\n"])
