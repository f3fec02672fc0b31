"""What drivers tell of themselves."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.backends import network_namespace
from support.privilege import needs_network_namespaces, needs_tap

from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.netdev import XdpFeatures, xdp_features


@pytest.fixture
def namespace() -> Iterator[None]:
    with network_namespace():
        yield


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


@needs_tap
@pytest.mark.usefixtures("namespace")
def test_drivers_tell_what_they_have() -> None:
    ip("link add near type veth peer name far")
    ip("tuntap add dev plain mode tap")
    assert xdp_features("near") == XdpFeatures(native=True, zero_copy=False, large=True, tx_checksum=False)
    assert xdp_features("plain") == XdpFeatures(native=True, zero_copy=False, large=False, tx_checksum=False)


@needs_network_namespaces
@pytest.mark.usefixtures("namespace")
def test_it_depends_on_the_queues_that_there_are() -> None:
    """A veth needs as many to receive from as its peer has to send to."""
    ip("link add near numrxqueues 2 numtxqueues 2 type veth peer name far numrxqueues 2 numtxqueues 2")
    for name in ("near", "far"):
        ip(f"link set {name} up")
    with Ethtool("near") as card:
        card.set_channels(replace(card.channels(), rx=1))
    found = xdp_features("near")
    assert found is not None
    assert not found.native


def test_an_interface_that_is_not_there() -> None:
    assert xdp_features("nowhere0") is None
