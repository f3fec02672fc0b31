"""How to test a handler: the counter on a simulated network that loses packets, while its workers die.

What runs is what `usnet-serve` runs, but for the wire and the time: the test takes no privilege and a fraction of a
second, and for the same seed everything happens in the same order again.
"""

from usnet_framework.testing import Network, Profile
from usnet_framework.testing.applications import Client

from .counter import Counter

LOSSY = Profile(delay_s=0.02, loss=0.05, reorder=0.02)
COUNTS = b"".join(b"%d\n" % number for number in range(1, 1001))


def test_every_line_is_counted_once() -> None:
    with Network(seed=1) as network:
        server = network.serve(Counter, "10.0.0.1/24", port=7000, up=LOSSY, down=LOSSY)
        client = network.node("10.0.0.2/24").connect(("10.0.0.1", 7000), Client())
        for _ in range(100):
            client.send(b"a line\n" * 10)
            network.run(0.013)
            server.kill_worker()
        network.run(until=lambda: len(client.received) == len(COUNTS))
        assert client.received == COUNTS
        assert server.statistics()["tcp_retransmitted"] > 0
