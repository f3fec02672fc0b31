"""Connections whose segments are 1000 bytes, and what is in flight on them."""

from __future__ import annotations

from usnet_framework.testing import Host, Scenario, states

KILO = states.SYN.replace("1460", "1000")
KILO_STAMPED = states.SYN_WITH_TIMESTAMPS.replace("1460", "1012")
"""Segments of 1000 bytes in either case."""
KILO_PLAIN = states.PLAIN_SYN.replace("1460", "1000")


def warm(host: Host, syn: str = KILO, *, rtt: float = 0.1, rounds: int = 3) -> Scenario:
    """A connection that has measured a round trip of so many seconds, with nothing in flight."""
    scenario = states.established(host, syn, rtt=rtt)
    for _ in range(rounds):
        scenario.write(1000)
        scenario.take()
        scenario.advance(rtt)
        scenario.send(".")
        scenario.take()
    return scenario


def in_flight(scenario: Scenario, segments: int) -> int:
    """Write so many segments and see them sent; the first number."""
    first = scenario.peer.stack_next
    scenario.write(1000 * segments)
    assert scenario.expect_data(first, first + 1000 * segments) == [1000] * segments
    return first
