"""The table of what the kernel knows, as the supervisor writes it; what a stack reads in it: tests/scenarios."""

from __future__ import annotations

import ipaddress
import mmap

import pytest

from usnet_framework._native import mapped_ip
from usnet_framework._native_kernel import (
    ADDRESSES_MAX,
    NEIGHBOURS_MAX,
    ROUTES_MAX,
    Route,
    table_bytes,
    write_table,
)
from usnet_framework._native_stack import Stack

FIRST = ipaddress.IPv4Address("10.0.0.1")


def addresses(count: int) -> list[ipaddress.IPv4Interface]:
    return [ipaddress.IPv4Interface(f"{FIRST + number}/16") for number in range(count)]


def routes(count: int) -> list[Route]:
    return [Route(ipaddress.ip_network(f"{FIRST + number}/32")) for number in range(count)]


def neighbours(count: int) -> dict[bytes, bytes]:
    return {mapped_ip(str(FIRST + number)): bytes([2, 0, 0, 0, 0, 1]) for number in range(count)}


def test_what_has_no_room_is_counted() -> None:
    with mmap.mmap(-1, table_bytes()) as memory:
        assert write_table(memory, addresses(ADDRESSES_MAX), routes(ROUTES_MAX), neighbours(NEIGHBOURS_MAX)) == 0
        over = addresses(ADDRESSES_MAX + 1), routes(ROUTES_MAX + 2), neighbours(NEIGHBOURS_MAX + 4)
        assert write_table(memory, *over) == 7


def test_those_that_have_room_are_the_first() -> None:
    with mmap.mmap(-1, table_bytes()) as memory, Stack(shared=True) as stack:
        assert write_table(memory, addresses(ADDRESSES_MAX + 1), [], {}) == 1
        stack.share(memory)
        stack.listen((str(FIRST + ADDRESSES_MAX - 1), 80))
        with pytest.raises(OSError, match="Cannot assign"):
            stack.listen((str(FIRST + ADDRESSES_MAX), 80))
        stack.close()


def test_a_memory_that_is_too_small_is_refused() -> None:
    with mmap.mmap(-1, table_bytes() - 4096) as memory, pytest.raises(ValueError, match="a table takes"):
        write_table(memory, [], [], {})
