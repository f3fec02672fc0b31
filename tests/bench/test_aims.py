"""Figures against bars: what --aim of usnet-bench compare says."""

from __future__ import annotations

import pytest

from usnet_framework.bench import aims
from usnet_framework.bench.rounds import NO_COST, NOTHING, Cost, Summary
from usnet_framework.errors import UsageError


def row(name: str, throughput: float, p50_us: float, cost: Cost = NO_COST) -> Summary:
    return Summary(name, 9, 0, throughput, throughput, throughput, 0.0, p50_us, 0.0, 0.0, 0.0, cost)


ROWS = [row("epoll-c", 100_000, 10.0), row("usnet", 150_000, 7.5), row("nobody", NOTHING, NOTHING)]
FIXED = [row(name, 50_000, 10.0, Cost(server_us)) for name, server_us in (("epoll-c", 12.0), ("usnet", 9.0))]


def said(text: str, size: int = 60) -> str:
    return str(aims.verdict(aims.parse(text), ROWS, FIXED, "epoll-c", size))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("usnet:ratio:1.4", "aim: usnet, messages/s, x epoll-c: 1.50, at least 1.4: reached"),
        ("usnet:ratio:1.6", "aim: usnet, messages/s, x epoll-c: 1.50, at least 1.6: missed"),
        ("usnet:p50:0.8", "aim: usnet, p50, x epoll-c: 0.75, at most 0.8: reached"),
        ("usnet:p50:0.7", "aim: usnet, p50, x epoll-c: 0.75, at most 0.7: missed"),
        ("usnet:rate:20000", "aim: usnet, messages/s: 150,000.00, at least 20,000: reached"),
        ("usnet:cpu:1", "aim: usnet, server core per message at the fixed rate, x epoll-c: 0.75, at most 1: reached"),
        ("epoll-c:ratio/usnet:0.9", "aim: epoll-c, messages/s, x usnet: 0.67, at least 0.9: missed"),
        ("nobody:ratio:1", "aim: nobody, messages/s, x epoll-c: nan, at least 1: missed"),
    ],
)
def test_a_line_says_the_figure_the_bar_and_the_outcome(text: str, line: str) -> None:
    assert said(text) == line


def test_bits_are_those_of_the_messages() -> None:
    assert said("usnet:gbit:1.1", size=1000).startswith("aim: usnet, Gbit/s: 1.20, at least 1.1")


@pytest.mark.parametrize(
    "text",
    ["usnet", "usnet:speed:1", "usnet:ratio", "usnet:ratio:fast", "usnet:ratio/:1", "usnet:rate/epoll-c:1", ""],
)
def test_what_is_no_aim_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="SERVER:FIGURE:BAR"):
        aims.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nobody:rate:1", "'nobody' is not one of the servers"),
        ("usnet:ratio/nobody:1", "'nobody' is not one of the servers"),
        ("usnet:cpu:1", "with --fixed alone"),
    ],
)
def test_what_will_not_be_measured_is_refused_before(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        aims.check([aims.parse(text)], ["usnet", "epoll-c"], fixed=False)


def test_what_is_measured_at_a_fixed_rate() -> None:
    aims.check([aims.parse("usnet:cpu/epoll-c:1")], ["usnet", "epoll-c"], fixed=True)
