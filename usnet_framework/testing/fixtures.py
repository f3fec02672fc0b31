"""pytest fixtures: a host, and a connection in each state, for tests of a stack or of what runs on it.

Import them into a conftest.py (`from usnet_framework.testing.fixtures import *`). Two marks shape the host:

    @pytest.mark.stack(rcv_limit=3000)           options of the stack
    @pytest.mark.link(mtu=9000)                  the link that it is on, or neighbours=False
    @pytest.mark.parametrize("family", [4, 6])   over IPv4 and over IPv6

Every test with a host fails if the stack sent something that it did not expect.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from usnet_framework._native_stack import Link
from usnet_framework.testing import states
from usnet_framework.testing.host import Host
from usnet_framework.testing.scenario import Scenario

__all__ = [
    "close_wait",
    "closing",
    "established",
    "established_client",
    "family",
    "fin_wait_1",
    "fin_wait_2",
    "host",
    "last_ack",
    "listening",
    "pytest_configure",
    "shards",
    "stack_options",
    "syn_received",
    "syn_sent",
    "time_wait",
]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "stack(**options): options of the stack under test")
    config.addinivalue_line("markers", "link(**fields): of the link it is on; neighbours=False: nobody answers ARP")


@pytest.fixture
def family() -> int:
    """The IP version of the scenario: 4, unless a test asks for others."""
    return 4


@pytest.fixture
def stack_options() -> dict[str, int | bool | bytes]:
    """Options of every stack, for a conftest.py to override; marks come on top."""
    return {}


def _marked(request: pytest.FixtureRequest, name: str) -> dict[str, Any]:
    """What all marks of a name say, the closest one last."""
    marks = reversed(list(request.node.iter_markers(name)))
    return {key: value for mark in marks for key, value in mark.kwargs.items()}


@pytest.fixture
def shards() -> int:
    """How many stacks the host is made of; with more than one, every frame comes to the wrong one."""
    return 1


@pytest.fixture
def host(
    request: pytest.FixtureRequest, family: int, shards: int, stack_options: dict[str, int | bool | bytes]
) -> Iterator[Host]:
    """A host under test."""
    options = stack_options | _marked(request, "stack")
    link = _marked(request, "link")
    neighbours = link.pop("neighbours", True)
    with Host(family=family, link=Link(**link), neighbours=neighbours, shards=shards, **options) as made:
        yield made


@pytest.fixture
def listening(host: Host) -> Scenario:
    """Somebody listens; the peer has sent nothing."""
    return states.listening(host)


@pytest.fixture
def syn_received(host: Host) -> Scenario:
    """SYN in, SYN-ACK out."""
    return states.syn_received(host)


@pytest.fixture
def established(host: Host) -> Scenario:
    """The peer has opened the connection, with window scaling and SACK and without timestamps."""
    return states.established(host)


@pytest.fixture
def syn_sent(host: Host) -> Scenario:
    """The application has called connect: SYN out."""
    return states.syn_sent(host)


@pytest.fixture
def established_client(host: Host) -> Scenario:
    """The application has opened the connection."""
    return states.established_client(host)


@pytest.fixture
def fin_wait_1(host: Host) -> Scenario:
    """Our FIN is out and not acknowledged."""
    return states.fin_wait_1(host)


@pytest.fixture
def fin_wait_2(host: Host) -> Scenario:
    """Our FIN is acknowledged; the peer may still send."""
    return states.fin_wait_2(host)


@pytest.fixture
def closing(host: Host) -> Scenario:
    """Both FINs are out, and ours is not acknowledged."""
    return states.closing(host)


@pytest.fixture
def time_wait(host: Host) -> Scenario:
    """Both sides are done, and we were first."""
    return states.time_wait(host)


@pytest.fixture
def close_wait(host: Host) -> Scenario:
    """The peer's FIN is in and acknowledged; the application may still write."""
    return states.close_wait(host)


@pytest.fixture
def last_ack(host: Host) -> Scenario:
    """The peer was first; our FIN is out and not acknowledged."""
    return states.last_ack(host)
