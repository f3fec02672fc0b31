"""How fast bulk transfers are over links with losses: a snapshot of exact numbers, and what theory says.

RFC 9438 section 5 has the average window of CUBIC where every 1/p-th packet is lost, in segments, with the RTT in
seconds: (C (3 + beta) / (4 (1 - beta)))^(1/4) RTT^(3/4) / p^(3/4), which is 1.054 RTT^(3/4) / p^(3/4) for its C = 0.4
and beta = 0.7. Where Reno's is larger, CUBIC is to be like Reno (section 4.3): sqrt(3 / (2 p)), as in the table of 5.1.
Goodput is a window of that size in each RTT. Losses here are random, not every 1/p-th packet: theory is that much off.

The formula is about the steady state. The first slow start ends with the first loss, at hundreds of segments in flight
where losses are few; with seven tenths left after each of the next, and 1/p packets between them, it takes thousands of
packets until that is forgotten. The fewer losses there are, the longer it takes to be near the mean, too: a transfer of
5000 packets comes out at 1.45 of the formula at 0.3 % and 800 ms, one of 60,000 at 1.10. So the first half does not
count here. There are 5 round trips between two losses there, and 3 at 1 % and 1 s (1.0): the formula holds even so.
"""

from __future__ import annotations

from math import sqrt
from statistics import mean

import pytest
from support.goodput import MSS, table, transfer
from support.tree import ROOT

COMMAND = "python tests/support/goodput.py > tests/simulation/goodput.txt"
UNLIMITED = {"buffer": 4 * 1024 * 1024, "rate_bps": 0.0}
"""Only losses limit."""


def reno_window(loss: float) -> float:
    """Segments."""
    return sqrt(1.5 / loss)


def cubic_window(loss: float, rtt_s: float) -> float:
    """Segments."""
    return max(1.054 * rtt_s**0.75 / loss**0.75, reno_window(loss))


def measured_window(congestion: str, loss: float, rtt_ms: float, segments: int) -> float:
    """Segments in each RTT, the mean of four transfers."""
    transfers = [
        transfer(segments * MSS, loss=loss, rtt_ms=rtt_ms, congestion=congestion, seed=seed, skip=0.5, **UNLIMITED)
        for seed in range(1, 5)
    ]
    return mean(each.goodput_bps / 8 * rtt_ms / 1000 / MSS for each in transfers)


def test_the_table_of_goodput_is_current() -> None:
    assert table() == (ROOT / "tests/simulation/goodput.txt").read_text(), f"if this is meant: {COMMAND}"


@pytest.mark.parametrize(
    ("loss", "rtt_ms", "segments"),
    [
        *((0.01, 20, 4000), (0.01, 100, 4000), (0.001, 100, 20_000)),
        *((0.001, 400, 20_000), (0.003, 800, 60_000), (0.01, 1000, 6000)),
    ],
    ids=["as Reno, 20 ms", "as Reno, 100 ms", "as Reno, few losses", "faster", "faster, 800 ms", "faster, a second"],
)
def test_where_loss_limits_cubic_is_as_fast_as_its_response_function(loss: float, rtt_ms: float, segments: int) -> None:
    window = measured_window("cubic", loss, rtt_ms, segments)
    assert window == pytest.approx(cubic_window(loss, rtt_ms / 1000), rel=0.3)


@pytest.mark.parametrize("rtt_ms", [20, 100])
def test_where_loss_limits_reno_is_as_fast_as_its_response_function(rtt_ms: float) -> None:
    assert measured_window("reno", 0.01, rtt_ms, 4000) == pytest.approx(reno_window(0.01), rel=0.3)


@pytest.mark.parametrize("congestion", ["cubic", "reno"])
def test_one_percent_of_loss_at_20_ms_does_not_stall(congestion: str) -> None:
    """No pause of more than a few round trips: no retransmission timeout, whose least is ten of them."""
    for seed in range(1, 6):
        found = transfer(3_000_000, loss=0.01, rtt_ms=20, congestion=congestion, seed=seed, **UNLIMITED)
        assert found.longest_pause_s < 0.15
