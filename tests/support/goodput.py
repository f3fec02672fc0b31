"""What a bulk transfer gets through a link with losses, in virtual time: exact numbers, the same on every machine.

    python tests/support/goodput.py > tests/simulation/goodput.txt

writes the table that `tests/simulation/test_goodput.py` compares with.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise, product
from statistics import mean

from usnet_framework.testing import Network, Profile
from usnet_framework.testing.applications import Reader, Sender

LOSSES = (0.0, 0.001, 0.01, 0.03)
RTTS_MS = (1, 20, 100)
BUFFERS = (64 * 1024, 1024 * 1024)
CONGESTIONS = {"cubic": 0, "reno": 1}
SEEDS = (1, 2, 3)
RATE_BPS = 100e6
TABLE_BYTES = 1_000_000

MSS = 1448
"""Payload of a segment: an MTU of 1500 without headers and timestamps."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """How a transfer went."""

    goodput_bps: float
    seconds: float
    longest_pause_s: float
    """In which the receiver got nothing new."""


class Meter(Reader):
    """A reader that knows when something came."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.times_s: list[float] = []
        self.counts: list[int] = []
        """Bytes that had come before, at each of these times."""

    def on_readable(self) -> None:
        self.times_s.append(self.network.now_s)
        self.counts.append(self.received)
        super().on_readable()

    on_eof = on_readable


def transfer(total: int, *, loss: float, rtt_ms: float, buffer: int, congestion: str, seed: int,
             rate_bps: float = RATE_BPS, skip: float = 0.0) -> Transfer:  # fmt: skip
    """A transfer of so many bytes; only data is lost, acknowledgements are not. skip: the part of it that comes before
    one looks at the clock."""
    options = {"conn_max": 4, "frames": 8192, "sents": 8192, "rcv_limit": buffer, "snd_limit": buffer,
               "ooo_frames_max": 4096, "rcv_frames_max": 4096, "congestion": CONGESTIONS[congestion],
               "ecn": False}  # fmt: skip
    half_s = rtt_ms / 2000
    with Network(seed, check_every=1000) as network:
        there = Profile(delay_s=half_s, loss=loss, rate_bps=rate_bps, queue_bytes=128 * 1024)
        client = network.node("10.0.0.1/24", up=there, **options)
        server = network.node("10.0.0.2/24", up=Profile(delay_s=half_s), **options)
        meter = Meter(network)
        server.listen(80, lambda: meter)
        client.connect(("10.0.0.2", 80), Sender(total))
        network.run(3600, until=lambda: meter.is_over)
        assert meter.received == total
        pauses = [after - before for before, after in pairwise(meter.times_s)]
        first = bisect_left(meter.counts, total * skip)
        seconds = meter.times_s[-1] - meter.times_s[first]
        return Transfer((total - meter.counts[first]) * 8 / seconds, seconds, max(pauses))


def table() -> str:
    """Mean goodput of a transfer of TABLE_BYTES over a link of RATE_BPS, for each combination."""
    lines = [f"# Mbit/s of {TABLE_BYTES} bytes over a link of {RATE_BPS / 1e6:.0f} Mbit/s, mean of {len(SEEDS)} seeds",
             "# loss % rtt ms buffer  " + "  ".join(f"{name:>8}" for name in CONGESTIONS)]  # fmt: skip
    for loss, rtt_ms, buffer in product(LOSSES, RTTS_MS, BUFFERS):
        seeds = SEEDS if loss else SEEDS[:1]
        means = [
            mean(
                transfer(TABLE_BYTES, loss=loss, rtt_ms=rtt_ms, buffer=buffer, congestion=name, seed=seed).goodput_bps
                for seed in seeds
            )
            for name in CONGESTIONS
        ]
        lines.append(f"{loss * 100:8.1f} {rtt_ms:6} {buffer:8}  " + "  ".join(f"{bps / 1e6:8.3f}" for bps in means))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
