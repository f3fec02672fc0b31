"""SIOCETHTOOL as the kernel has it: its structs, and a veth pair's settings. Real cards: tests/lab."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.backends import network_namespace
from support.link import ip
from support.privilege import needs_network_namespaces

from usnet_framework.shards import ethtool
from usnet_framework.shards.ethtool import Ethtool

LAYOUT = """
#include <linux/ethtool.h>
#include <stddef.h>
#include <stdio.h>
#define AT(name, member) (int)offsetof(struct ethtool_##name, member)
int main(void)
{
    printf("%d %d ", (int)sizeof(struct ethtool_rxnfc), AT(rxfh, rss_config));
    printf("%d ", (int)sizeof(struct ethtool_drvinfo));
    printf("%d %d\\n", (int)sizeof(struct ethtool_channels), (int)sizeof(struct ethtool_ringparam));
}
"""


def compiled(source: str, folder: Path) -> bytes:
    """What the program prints."""
    (folder / "program.c").write_text(source)
    cc = shutil.which("cc") or "cc"
    subprocess.run([cc, "-o", folder / "program", folder / "program.c"], check=True)
    return subprocess.run([folder / "program"], capture_output=True, check=True).stdout


def test_structs_are_those_of_the_kernel(tmp_path: Path) -> None:
    assert [int(number) for number in compiled(LAYOUT, tmp_path).split()] == [
        ethtool._RXNFC.size,
        ethtool._RXFH.size,
        ethtool._DRVINFO.size,
        ethtool._NUMBERS.size,
        ethtool._NUMBERS.size,
    ]


@pytest.fixture
def card() -> Iterator[Ethtool]:
    """One end of a veth pair with four queues each way, in a network namespace of its own."""
    with network_namespace():
        queues = ("numrxqueues", "4", "numtxqueues", "4")
        ip("link", "add", "usv0", *queues, "type", "veth", "peer", "name", "usv1", *queues)
        with Ethtool("usv0") as card:
            yield card


@needs_network_namespaces
def test_what_an_interface_is(card: Ethtool) -> None:
    assert card.driver().name == "veth"
    assert card.mtu() == 1500
    assert "toeplitz" in card.hash_functions()


@needs_network_namespaces
def test_queues_are_set(card: Ethtool) -> None:
    found = card.channels()
    card.set_channels(replace(found, rx=2, tx=3))
    assert card.channels() == replace(found, rx=2, tx=3)
    with pytest.raises(OSError, match="Invalid argument"):
        card.set_channels(replace(found, rx=5))


@needs_network_namespaces
def test_offloads_are_set_by_name(card: Ethtool) -> None:
    assert card.features()["tx-tcp-segmentation"].active
    card.set_feature("tx-tcp-segmentation", False)
    assert not card.features()["tx-tcp-segmentation"].active
    assert not card.features()["rx-ntuple-filter"].changeable
    with pytest.raises(OSError, match="not supported"):
        card.set_feature("rx-ntuple-filter", True)
    with pytest.raises(KeyError):
        card.set_feature("no-such-offload", True)


@needs_network_namespaces
def test_what_a_driver_does_not_have_is_refused(card: Ethtool) -> None:
    for ask in (card.rss, card.rings, lambda: card.flow_fields("tcp4")):
        with pytest.raises(OSError, match="not supported") as caught:
            ask()
        assert caught.value.errno == errno.EOPNOTSUPP


def test_an_interface_that_is_not_there() -> None:
    with Ethtool("usnet-none") as card, pytest.raises(OSError, match="No such device") as caught:
        card.channels()
    assert caught.value.errno == errno.ENODEV
