"""Network cards with real drivers are set up for their queues, do what is predicted or are told not to, and are put
back: by the server itself, and after it was killed."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.machine import IGB, PLAIN, VIRTIO, Cable, Machine

from usnet_framework.shards.steering import queue_of, steering_key, steering_table

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

QUEUES = 4
FLOWS = 100
"""Of IPv4, and as many of IPv6."""
FIRST_PORT = 20000
STATE = "/tmp/card.json"
FIELDS = ["destination address", "destination port", "source address", "source port"]


class Held:
    """A card that is set up, in the guest: `state` is what hold.py has written."""

    def __init__(self, guest: Machine, cable: Cable) -> None:
        self.guest = guest
        guest.run("rm", "-f", STATE)
        self.pid = guest.start(sys.executable, "-P", "tests/lab/hold.py", cable.guest, str(QUEUES))
        guest.run("sh", "-c", f"while [ ! -e {STATE} ] && [ -e /proc/{self.pid}/exe ]; do sleep 0.2; done")
        self.state = self.read()

    def read(self) -> dict[str, Any]:
        done = self.guest.attempt("cat", STATE)
        assert done.status == 0, self.guest.kill(self.pid, signal.SIGKILL).stdout
        state = json.loads(done.stdout)
        assert isinstance(state, dict)
        return state

    def end(self, number: int) -> None:
        done = self.guest.kill(self.pid, number)
        assert done.status == (-number if number == signal.SIGKILL else 0), done.stdout
        self.state = self.read()

    def finding(self, what: str) -> dict[str, Any]:
        (found,) = (finding for finding in self.state["findings"] if finding["what"] == what)
        assert isinstance(found, dict)
        return found

    def off_prediction(self, cable: Cable) -> list[tuple[int, int]]:
        """Of the flows that came, those that came through another queue than that of their owner."""
        came = {(version, port): queue for queue, seen in enumerate(self.state["seen"]) for version, port in seen}
        assert len(came) == 2 * FLOWS
        return [
            (version, port)
            for (version, port), queue in came.items()
            if queue != queue_of((host(cable, version), port), (there(cable, version), 7), QUEUES)
        ]


def host(cable: Cable, version: int) -> str:
    return cable.host_addresses[version == 6]


def there(cable: Cable, version: int) -> str:
    return cable.guest_addresses[version == 6]


def connect_from_many_ports(cable: Cable) -> None:
    """Nobody listens: each is answered with a reset, and its first packet has come."""
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        for port in range(FIRST_PORT, FIRST_PORT + FLOWS):
            with socket.socket(family) as client:
                client.settimeout(60)
                client.bind((host(cable, version), port))
                assert client.connect_ex((there(cable, version), 7)) != 0


@contextmanager
def held(guest: Machine, cable: Cable) -> Iterator[Held]:
    one = Held(guest, cable)
    try:
        yield one
    finally:
        one.end(signal.SIGTERM)


@pytest.mark.parametrize(("cable", "driver"), [(IGB, "igb"), (VIRTIO, "virtio_net")])
def test_every_flow_comes_through_the_queue_of_its_shard(guest: Machine, cable: Cable, driver: str) -> None:
    with held(guest, cable) as card:
        during = card.state["during"]
        assert during["driver"] == driver
        assert during["queues"] >= QUEUES
        assert during["key"] == steering_key(40).hex()
        assert during["table"] == list(steering_table(128, QUEUES))
        assert during["fields"]["tcp4"] == during["fields"]["tcp6"] == FIELDS
        assert card.finding("card steering")["ok"]
        assert any(line.startswith(f"{cable.guest} rss: ") for line in card.state["planned"])
        connect_from_many_ports(cable)
    assert card.off_prediction(cable) == []
    assert card.state["after"] == card.state["before"]
    assert card.state["left"] == []


def test_a_killed_server_s_settings_of_the_82576_are_put_back(guest: Machine) -> None:
    card = Held(guest, IGB)
    card.end(signal.SIGKILL)
    left = guest.run("usnet-ctl", "doctor", "--fix")
    assert "igb0 rss: " in left
    with held(guest, IGB) as again:
        pass
    assert again.state["before"] == card.state["before"]


def test_a_card_without_rss_is_told_and_left_as_it_is(guest: Machine) -> None:
    with held(guest, PLAIN) as card:
        assert card.state["planned"] == []
        steering = card.finding("card steering")
        assert not steering["ok"]
        assert steering["reason"] == "the driver virtio_net has no table for its hash"
        connect_from_many_ports(PLAIN)
    assert len(card.off_prediction(PLAIN)) > FLOWS // 2
    assert card.state["after"] == card.state["before"]
