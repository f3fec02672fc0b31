"""Settings of a network card are put back: at the end, by the next server, by usnet-ctl doctor --fix."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from support.backends import network_namespace
from support.fake_card import FakeCard
from support.link import ip
from support.privilege import needs_network_namespaces

from usnet_framework.errors import InUse, StartupError
from usnet_framework.shards import undo
from usnet_framework.shards.cardsettings import own_table
from usnet_framework.shards.ethtool import Channels, Ethtool
from usnet_framework.shards.nic import Nic, Wanted
from usnet_framework.shards.undo import Journal, holder, left, leftovers, put_back, undo_leftovers

FOUR = Wanted("lo", 4)
RESERVED = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")


def killed(journal: Journal) -> None:
    """Its process is gone: the lock is, and nothing else happens."""
    journal._file.close()


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_card_gets_its_settings_back(card: FakeCard, tmp_path: Path) -> None:
    before = deepcopy(card)
    one = Nic(FOUR, tmp_path)
    assert card.rx_queues() == 4
    assert card.hash.key == b"\x6d\x5a" * 20
    one.close()
    card.said.clear()
    assert card == before
    assert files(tmp_path) == []


def test_the_hash_is_set_once_more_as_it_is(card: FakeCard, tmp_path: Path) -> None:
    one = Nic(FOUR, tmp_path)
    hashed = card.hash
    card.said.clear()
    one.repeat_hash()
    card.lacks = {"rss"}
    one.repeat_hash()
    assert (card.said, card.hash) == (["hash"], hashed)
    card.lacks = set()
    one.close()


def test_the_next_server_puts_back_what_a_killed_one_left(card: FakeCard, tmp_path: Path) -> None:
    before = deepcopy(card)
    killed(Nic(FOUR, tmp_path).journal)
    card.said.clear()
    Nic(Wanted("lo", 2), tmp_path).close()
    card.said.clear()
    assert card == before


def test_doctor_shows_what_was_left_and_puts_it_back(card: FakeCard, tmp_path: Path) -> None:
    before = deepcopy(card)
    killed(Nic(FOUR, tmp_path).journal)
    (finding,) = leftovers(tmp_path)
    assert (finding.what, finding.in_force) == ("left over on lo", "5 settings of a server that was killed")
    assert "doctor --fix" in finding.fix
    lines = undo_leftovers(tmp_path)
    assert [line.split(":")[0] for line in lines] == [
        "lo flow tcp6",
        "lo flow tcp4",
        "lo rss",
        "lo channels",
        "lo feature rx-lro",
    ]
    card.said.clear()
    assert card == before
    assert leftovers(tmp_path) == undo_leftovers(tmp_path) == files(tmp_path) == []


def test_a_server_that_lives_has_left_nothing(card: FakeCard, tmp_path: Path) -> None:
    one = Nic(FOUR, tmp_path)
    assert leftovers(tmp_path) == undo_leftovers(tmp_path) == []
    pid = os.getpid()
    with pytest.raises(InUse, match=f"--interface lo: the server of process {pid} has it; kill {pid}, or use another"):
        Nic(FOUR, tmp_path)
    one.close()


@pytest.mark.parametrize("length", [0, 3, 20, -2, -30])
def test_a_death_while_something_is_written_down_loses_nothing(card: FakeCard, tmp_path: Path, length: int) -> None:
    """The file ends anywhere; what it announces in its last line was not done."""
    before = deepcopy(card)
    journal = Journal(card.card, tmp_path)
    journal.change("flow", "tcp4", ["source port"])
    path = next(tmp_path.iterdir())
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    announced = b"".join(lines[:2])
    next_step = json.dumps({"step": 1, "kind": "feature", "name": "rx-lro", "before": True}).encode()
    killed(journal)
    path.write_bytes(announced + lines[2] + next_step[:length] if length >= 0 else announced + lines[2][:length])
    undo_leftovers(tmp_path)
    card.said.clear()
    assert card == before
    assert files(tmp_path) == []


def test_what_somebody_else_has_set_since_stays(card: FakeCard, tmp_path: Path) -> None:
    journal = Journal(card.card, tmp_path)
    journal.change("flow", "tcp4", ["source port"])
    journal.change("feature", "rx-lro", False)
    card.set_flow_fields("tcp4", ["destination port"])
    killed(journal)
    lines = undo_leftovers(tmp_path)
    assert lines[1].endswith("not put back, as somebody else has changed it since")
    assert card.hashed["tcp4"] == {"destination port"}
    assert card.offloads["rx-lro"].active
    assert files(tmp_path) == []


def test_what_cannot_be_put_back_is_tried_again(card: FakeCard, tmp_path: Path) -> None:
    journal = Journal(card.card, tmp_path)
    journal.change("feature", "rx-lro", False)
    card.refuses = {"set_feature"}
    journal.close()
    assert [finding.what for finding in leftovers(tmp_path)] == ["left over on lo"]
    card.refuses = set()
    assert undo_leftovers(tmp_path) == ["lo feature rx-lro: off -> on"]
    assert leftovers(tmp_path) == []


def test_queues_that_the_kernel_lets_go_late_are_taken_away(
    card: FakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses more often than there is time for in a second. Closing waits for nothing; what is after it does."""
    monkeypatch.setattr(undo, "RETRY_S", 0.0)
    before, set_channels = deepcopy(card), FakeCard.set_channels
    journal, refusals = Nic(FOUR, tmp_path).journal, iter(range(100))

    def late(card: FakeCard, channels: Channels) -> None:
        card.refuses = set() if next(refusals, None) is None else {"set_channels"}
        set_channels(card, channels)

    monkeypatch.setattr(FakeCard, "set_channels", late)
    journal.close()
    assert next(refusals) == 1, "it was tried once"
    assert leftovers(tmp_path)[0].reason == "channels was 2 receiving"
    put_back("lo", tmp_path)
    card.said.clear()
    assert card == before
    assert files(tmp_path) == []


def test_what_is_changed_and_put_back_is_logged(
    card: FakeCard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "usnet.supervisor")
    journal = Journal(card.card, tmp_path)
    journal.change("feature", "rx-lro", False)
    journal.change("feature", "rx-lro", False)  # it is so
    card.refuses = {"set_flow_fields"}
    with pytest.raises(OSError, match="Invalid argument"):
        journal.change("flow", "tcp4", [])
    journal.close()
    assert caplog.messages == ["lo feature rx-lro: on -> off", "lo feature rx-lro: off -> on"]


@contextmanager
def no_more_than(length: int) -> Iterator[None]:
    """In any file that this process writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_nothing_can_be_written_down_any_more_all_is_put_back(card: FakeCard, tmp_path: Path) -> None:
    before = deepcopy(card)
    one = Nic(FOUR, tmp_path)
    (path,) = tmp_path.iterdir()
    with no_more_than(path.stat().st_size):
        one.close()
    card.said.clear()
    assert card == before
    assert files(tmp_path) == []


def test_what_cannot_be_written_down_is_not_done_and_harms_nothing_else(card: FakeCard, tmp_path: Path) -> None:
    journal = Journal(card.card, tmp_path)
    (path,) = tmp_path.iterdir()
    with no_more_than(path.stat().st_size + 10), pytest.raises(OSError, match=r"too large|No space"):
        journal.change("flow", "tcp4", [])
    assert card.said == []
    journal.change("feature", "rx-lro", False)
    killed(journal)
    assert undo_leftovers(tmp_path) == ["lo feature rx-lro: off -> on"]
    assert files(tmp_path) == []


def test_an_interface_that_cannot_be_asked_for_is_not_taken_for_gone(
    card: FakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor to ask with."""

    def refuse(index: int) -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    journal = Journal(card.card, tmp_path)
    journal.change("feature", "rx-lro", False)
    with monkeypatch.context() as patched:
        patched.setattr(undo, "name_of", refuse)
        journal.close()
    assert undo_leftovers(tmp_path) == ["lo feature rx-lro: off -> on"]


def test_a_death_as_the_next_server_begins_loses_nothing(
    card: FakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it could not put back is in the old journal until the new one has it."""
    journal = Journal(card.card, tmp_path)
    journal.change("feature", "rx-lro", False)
    killed(journal)
    card.refuses = {"set_feature"}
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Journal(card.card, tmp_path)
    card.refuses = set()
    assert undo_leftovers(tmp_path) == ["lo feature rx-lro: off -> on"]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_the_next_server_cannot_put_back_it_tries_again_at_its_end(card: FakeCard, tmp_path: Path) -> None:
    journal = Journal(card.card, tmp_path)
    journal.change("feature", "rx-lro", False)
    killed(journal)
    card.refuses = {"set_feature"}
    following = Journal(card.card, tmp_path)
    card.refuses = set()
    following.close()
    assert card.offloads["rx-lro"].active
    assert files(tmp_path) == []


def test_flows_that_come_to_queues_that_nobody_serves_are_told_of(card: FakeCard, tmp_path: Path) -> None:
    """Somebody else has given the card more queues, and all of them to flows."""
    one = Nic(FOUR, tmp_path)
    assert one.trouble() is None
    card.now = replace(card.now, combined=8)
    assert one.trouble() is None  # the table still names ours alone
    card.hash = replace(card.hash, table=own_table(128, 8))
    trouble, fix = one.trouble() or ("", "")
    assert trouble == "interface lo receives on 8 queues, of which 4 are served"
    assert "--queues 8" in fix
    one.close()


def test_a_step_that_a_driver_refuses_leaves_nothing_to_undo(card: FakeCard, tmp_path: Path) -> None:
    card.refuses = {"set_rss"}
    one = Nic(FOUR, tmp_path)
    (steering,) = (finding for finding in one.findings() if finding.what == "card steering")
    assert "Invalid argument" in steering.reason
    card.said.clear()
    one.close()
    assert "hash" not in card.said


def test_a_server_that_gets_too_few_queues_leaves_the_card_as_it_was(card: FakeCard, tmp_path: Path) -> None:
    before = deepcopy(card)
    card.refuses = {"set_channels"}
    with pytest.raises(StartupError, match="lo stays at 2: Invalid argument"):
        Nic(FOUR, tmp_path)
    card.refuses = set()
    card.said.clear()
    assert card == before
    assert files(tmp_path) == []


def test_a_process_that_has_the_number_of_a_killed_one_is_not_named(card: FakeCard, tmp_path: Path) -> None:
    """While somebody else looks at what that one has left."""
    journal = Journal(card.card, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace(f'"began": {undo._began(os.getpid())}', '"began": 1'))
    with pytest.raises(InUse, match="has it, or it is being put back as it was; try again, or use another") as refused:
        Journal(card.card, tmp_path, patience_s=0.0)
    assert str(os.getpid()) not in str(refused.value)
    killed(journal)


def test_whoever_has_no_patience_does_not_wait_for_who_looks(
    card: FakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the loop of a server that joins an interface again, while doctor --fix has its journal."""
    one = Journal(card.card, tmp_path)
    monkeypatch.setattr(undo.time, "sleep", interrupt)
    with pytest.raises(InUse):
        Journal(card.card, tmp_path, patience_s=0.0)
    one.close()


@pytest.mark.parametrize(("refusal", "tries"), [(errno.EINVAL, 3), (errno.EBUSY, 3), (errno.EPERM, 1)])
def test_only_a_refusal_that_may_pass_is_waited_for(
    card: FakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int, tries: int
) -> None:
    journal, tried, set_channels = Nic(FOUR, tmp_path).journal, [], FakeCard.set_channels

    def refuse(card: FakeCard, channels: Channels) -> None:
        tried.append(channels)
        if len(tried) < 3:
            raise OSError(refusal, os.strerror(refusal))
        set_channels(card, channels)

    killed(journal)
    monkeypatch.setattr(undo, "RETRY_S", 0.0)
    monkeypatch.setattr(FakeCard, "set_channels", refuse)
    put_back("lo", tmp_path)
    assert len(tried) == tries


def test_another_interface_of_the_same_name_is_left_alone(card: FakeCard, tmp_path: Path) -> None:
    """As a card that was taken out, or a machine that was booted anew: its settings are gone anyway."""
    journal = Journal(card.card, tmp_path)
    journal.change("feature", "rx-lro", False)
    killed(journal)
    path = next(tmp_path.iterdir())
    path.write_text(path.read_text().replace('"index": ', '"index": 9'))
    assert leftovers(tmp_path) == undo_leftovers(tmp_path) == []
    assert not card.offloads["rx-lro"].active
    assert files(tmp_path) == []


def test_what_another_version_has_changed_is_left_to_it(card: FakeCard, tmp_path: Path) -> None:
    journal = Journal(card.card, tmp_path)
    journal.change("feature", "rx-lro", False)
    killed(journal)
    path = next(tmp_path.iterdir())
    path.write_text(path.read_text() + json.dumps({"step": 1, "kind": "newer", "name": "", "before": 7}) + "\n")
    assert leftovers(tmp_path)[0].reason == "rx-lro was on; newer was 7"
    lines = undo_leftovers(tmp_path)
    assert lines[:-1] == ["lo feature rx-lro: off -> on"]
    assert lines[-1].startswith("lo newer: cannot be put back: another version")
    assert leftovers(tmp_path)[0].reason == "newer was 7"


def test_a_text_file_of_the_kernel_is_put_back(
    card: FakeCard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "usnet.supervisor")
    setting = tmp_path / "ip_local_reserved_ports"
    setting.write_text("8080\n")
    journal = Journal(card.card, tmp_path / "journals")
    assert journal.change("file", str(setting), "8080,40000-40999") == "8080,40000-40999"
    assert caplog.messages == [f"{setting}: 8080 -> 8080,40000-40999"]
    journal.close()
    assert setting.read_text() == "8080\n"


@needs_network_namespaces
def test_ports_of_two_servers_are_given_back_in_any_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each is taken out of what is there then."""
    caplog.set_level("INFO", "usnet.supervisor")
    with network_namespace():
        RESERVED.write_text("8080\n")
        ip("link", "add", "usv0", "type", "veth", "peer", "name", "usv1")
        with Ethtool("usv0") as one, Ethtool("usv1") as other:
            first, second = Journal(one, tmp_path), Journal(other, tmp_path)
            assert first.change("ports", "40000-40099", True)
            assert second.change("ports", "41000-41099", True)
            assert caplog.messages[0] == "usv0 ports 40000-40099: the kernel's -> reserved"
            assert RESERVED.read_text() == "8080,40000-40099,41000-41099\n"
            killed(first)
            assert left("usv0", "ports", tmp_path) == ["40000-40099"]
            assert left("usv1", "ports", tmp_path) == left("usv0", "file", tmp_path) == []
            assert undo_leftovers(tmp_path) == ["usv0 ports 40000-40099: reserved -> the kernel's"]
            assert RESERVED.read_text() == "8080,41000-41099\n"
            second.close()
            assert RESERVED.read_text() == "8080\n"


def test_an_interface_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="--interface usnet-none: there is no such interface"):
        Nic(Wanted("usnet-none", 1), tmp_path)


@pytest.fixture
def pair() -> Iterator[Ethtool]:
    """One end of a veth pair with four queues, of which one is used, in a network namespace of its own."""
    with network_namespace():
        queues = ("numrxqueues", "4", "numtxqueues", "4")
        ip("link", "add", "usv0", *queues, "type", "veth", "peer", "name", "usv1", *queues)
        with Ethtool("usv0") as card:
            card.set_channels(card.channels().__class__(1, 1, 0, 0, 4, 4, 0, 0))
            yield card


CHILD = """
import os, signal, sys
from pathlib import Path
from usnet_framework.shards.nic import Nic, Wanted
nic = Nic(Wanted("usv0", 4), Path(sys.argv[1]))
print(nic.findings()[1].in_force, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_network_namespaces
def test_queues_of_a_killed_server_are_given_back(pair: Ethtool, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", CHILD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "4 of 4\n", done.stderr
    assert done.returncode == -signal.SIGKILL
    assert (pair.channels().rx, pair.channels().tx) == (4, 4)
    assert undo_leftovers(tmp_path) == ["usv0 channels: 4 receiving -> 1 receiving"]
    assert (pair.channels().rx, pair.channels().tx) == (1, 1)
    assert os.listdir(tmp_path) == []


@needs_network_namespaces
def test_a_driver_without_a_hash_to_set_is_told(pair: Ethtool, tmp_path: Path) -> None:
    one = Nic(Wanted("usv0", 4), tmp_path)
    found = {finding.what: finding for finding in one.findings()}
    assert found["driver"].in_force == "veth (version 1.0)"
    assert found["card queues"].in_force == "4 of 4"
    assert found["card steering"].reason == "the driver veth has no table for its hash"
    one.close()
    assert pair.channels().rx == 1


@needs_network_namespaces
def test_more_queues_than_a_veth_pair_was_made_with_are_refused(pair: Ethtool, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"--queues 5: usv0 has 4 \(veth\); use --queues 4"):
        Nic(Wanted("usv0", 5), tmp_path)
    assert os.listdir(tmp_path) == []


def exchange_names() -> None:
    """Of ours and of another one, which has four queues."""
    queues = ("numrxqueues", "4", "numtxqueues", "4")
    ip("link", "set", "usv0", "name", "usv8")
    ip("link", "add", "usv0", *queues, "type", "veth", "peer", "name", "usv9", *queues)


def receiving(name: str) -> int:
    with Ethtool(name) as card:
        return card.channels().rx


@needs_network_namespaces
@pytest.mark.parametrize("by", ["the server", "doctor", "the next server", "the next server on its name"])
def test_an_interface_that_was_renamed_gets_its_settings_back(pair: Ethtool, tmp_path: Path, by: str) -> None:
    one = Nic(Wanted("usv0", 4), tmp_path)
    assert holder("usv0", tmp_path) == os.getpid()
    exchange_names()
    assert (receiving("usv0"), receiving("usv8")) == (4, 4)
    assert (holder("usv0", tmp_path), holder("usv8", tmp_path)) == (None, os.getpid())
    if by == "the server":
        one.close()
    else:
        killed(one.journal)
    if by == "doctor":
        assert undo_leftovers(tmp_path) == ["usv8 channels: 4 receiving -> 1 receiving"]
    elif by.startswith("the next"):
        wanted = Wanted("usv0", 4) if by.endswith("name") else Wanted("usv8", 1)
        Nic(wanted, tmp_path).close()
    assert (receiving("usv0"), receiving("usv8")) == (4, 1)
    assert os.listdir(tmp_path) == []


@needs_network_namespaces
def test_a_look_in_the_loop_asks_one_question(
    pair: Ethtool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that doctor tells is asked elsewhere."""
    one = Nic(Wanted("usv0", 4), tmp_path)
    asked: list[bytes] = []
    ask = Ethtool._ask

    def noted(card: Ethtool, request: bytes) -> bytes:
        asked.append(request)
        return ask(card, request)

    monkeypatch.setattr(Ethtool, "_ask", noted)
    one.tune()
    assert asked == [], "nothing is to be tuned, and it has just been looked at"
    assert one.trouble() is None
    assert len(asked) == 1
    found = one.findings()
    assert len(asked) == 1
    ip("link", "set", "usv0", "mtu", "1400")
    assert one.findings() == found
    one.look()
    assert {finding.what for finding in one.findings()} - {finding.what for finding in found} == {"packet size"}
    one.close()
