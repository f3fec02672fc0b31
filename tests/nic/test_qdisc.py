"""Queueing disciplines are read and set as tc(8) does it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backends import network_namespace
from support.link import ip, tc
from support.privilege import needs_network_namespaces
from support.server import wait

from usnet_framework.shards import rtnetlink
from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.qdisc import root_qdisc, set_root_qdisc
from usnet_framework.shards.undo import Journal

pytestmark = needs_network_namespaces

HERE, THERE = "usv0", "usv1"


@pytest.fixture(autouse=True)
def pair() -> Iterator[None]:
    with network_namespace():
        ip("link", "add", HERE, "type", "veth", "peer", "name", THERE)
        yield


def test_the_kernel_s_own_is_none_up_or_down() -> None:
    assert root_qdisc(THERE) is None
    ip("link", "set", THERE, "up")
    assert root_qdisc(THERE) is None
    assert root_qdisc("lo") is None


def test_one_is_set_and_taken_away() -> None:
    ip("link", "set", THERE, "up")
    before = tc("qdisc", "show", "dev", THERE)
    set_root_qdisc(THERE, "pfifo limit 1000")
    assert "qdisc pfifo" in tc("qdisc", "show", "dev", THERE)
    assert root_qdisc(THERE) == "pfifo limit 1000"
    set_root_qdisc(THERE, "pfifo limit 10")
    assert root_qdisc(THERE) == "pfifo limit 10"
    set_root_qdisc(THERE, None)
    assert root_qdisc(THERE) is None
    assert tc("qdisc", "show", "dev", THERE) == before


def test_those_of_others_are_known_by_their_kind() -> None:
    tc("qdisc", "add", "dev", THERE, "root", "bfifo", "limit", "1000")
    assert root_qdisc(THERE) == "bfifo"


def test_an_interface_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="No such device"):
        root_qdisc("none0")
    with pytest.raises(OSError, match="No such file"):
        set_root_qdisc(HERE, None)  # there is none to delete


def test_a_journal_puts_it_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "usnet.supervisor")
    with Ethtool(HERE) as card:
        journal = Journal(card, tmp_path)
        assert journal.change("qdisc", THERE, "pfifo limit 1000") == "pfifo limit 1000"
        assert caplog.messages == [f"{HERE} qdisc {THERE}: the kernel's own -> pfifo limit 1000"]
        journal.close()
    assert root_qdisc(THERE) is None


def test_what_somebody_has_chosen_meanwhile_stays_and_all_else_is_put_back(tmp_path: Path) -> None:
    """It could not be put back as it was."""
    with Ethtool(HERE) as card:
        journal = Journal(card, tmp_path)
        journal.change("qdisc", HERE, "pfifo limit 1000")
        tc("qdisc", "add", "dev", THERE, "root", "bfifo", "limit", "1000")
        with pytest.raises(OSError, match="resource busy"):
            journal.change("qdisc", THERE, "pfifo limit 1000")
        journal.close()
    assert (root_qdisc(HERE), root_qdisc(THERE)) == (None, "bfifo")
    assert os.listdir(tmp_path) == []


def test_where_it_was_is_gone_there_is_nothing_to_put_back(tmp_path: Path) -> None:
    with Ethtool(HERE) as card:
        journal = Journal(card, tmp_path)
        journal.change("qdisc", THERE, "pfifo limit 1000")
        ip("link", "set", THERE, "name", "usv2")
        journal.close()
    assert os.listdir(tmp_path) == []


def test_the_other_end_of_a_veth_pair_is_known_while_it_is_here() -> None:
    assert (rtnetlink.link(HERE).peer, rtnetlink.link(THERE).peer, rtnetlink.link("lo").peer) == (THERE, HERE, "")
    away = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
    try:
        wait("it has a namespace", lambda: namespace(away.pid) != namespace(os.getpid()))
        ip("link", "set", THERE, "netns", str(away.pid))
        assert rtnetlink.link(HERE).peer == ""
    finally:
        away.kill()
        away.wait()


def namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")
