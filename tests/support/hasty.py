"""usnet-serve with less patience, as the prefix of one: a seat is out of service after three deaths of workers that did
nothing."""

from __future__ import annotations

import sys

from usnet_framework.cli.serve import main
from usnet_framework.shards import seat

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    seat.QUICK_DEATHS_MOST = 2
    sys.exit(main())
