"""TCP segmentation offload off, for an interface of the network namespace that this runs in.

    python -m usnet_framework.bench.segmentation INTERFACE"""

from __future__ import annotations

import sys

from usnet_framework.shards.ethtool import Ethtool

PREFIXES = ("tx-tcp-", "tx-tcp6-")  # with ECN and the like, as ethtool -K INTERFACE tso off has them


def stop(interface: str) -> None:
    """OSError."""
    with Ethtool(interface) as card:
        for name, feature in card.features().items():
            if name.startswith(PREFIXES) and feature.active:
                card.set_feature(name, False)


if __name__ == "__main__":
    try:
        stop(sys.argv[1])
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror}")
