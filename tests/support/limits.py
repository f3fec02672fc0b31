"""Few descriptors for this process, or none.

    with no_descriptor_left():
        with pytest.raises(OSError, match="Too many open files"): ...
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


def no_descriptor_left(but: int = 0) -> AbstractContextManager[None]:
    """But so many, if their numbers follow each other."""
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    return _limit(free + but)


def limit_of_descriptors(more: int) -> AbstractContextManager[None]:
    """So many more than this process has open."""
    return _limit(len(os.listdir("/proc/self/fd")) + more)


@contextmanager
def _limit(number: int) -> Iterator[None]:
    """Descriptors have lower numbers."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
