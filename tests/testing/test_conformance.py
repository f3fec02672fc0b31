"""The suite that every device has to pass finds what is wrong with one: examples/c/device.c, with mistakes."""

from __future__ import annotations

import ctypes
import inspect
import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest
from support.own_device import SOURCE, bench, compiled

from usnet_framework.testing.conformance import DeviceConformance

MISTAKES = {
    "a packet is lost": ("if (packet->length > PACKET_BYTES ||", "if (packet->length % 7 == 0 ||"),
    "pieces are left out": (".msg_iovlen = packet->count", ".msg_iovlen = packet->count > 2 ? 2 : packet->count"),
    "lent bytes are read late": (
        "static void own_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)\n{",
        "static struct un_tx late[64];\nstatic uint32_t lates;\n"
        "static void own_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)\n{\n"
        "    lates = count;\n    memcpy(late, packets, count * sizeof *late);\n"
        "    for (uint32_t i = 0; i < count; i++)\n        late[i].pieces = memcpy(malloc(4096), packets[i].pieces,"
        " packets[i].count * sizeof *packets[i].pieces);\n}\n"
        "static void own_flush(struct un_device *device)\n{\n    const struct un_tx *packets = late;\n"
        "    uint32_t count = lates;\n    lates = 0;",
    ),
    "peek forgets what it said": ("    most = most < WAITING", "    own->waiting = 0;\n    most = most < WAITING"),
    "release forgets all": ("    own->waiting -= count;", "    own->waiting = 0;"),
    "the newest comes first": ("own->packets[(own->first + i)", "own->packets[(own->first + count - 1 - i)"),
    "a chain is cut": ("        link = &pool->frames[frame].next;", "        link = &(uint32_t){UN_NONE};"),
    "a frame is kept": ("    uint32_t head = UN_NONE,", "    un_pool_take(pool);\n    uint32_t head = UN_NONE,"),
    "close keeps what waits": ("        un_pool_drop_chain(device->pool,", "        (void)(device->pool,"),
    "attach keeps what waits": ("    own_of(device)->waiting = 0;", "    (void)device;"),
    "it sleeps over packets": ("return own_of(device)->waiting == 0;", "return own_of(device) != NULL;"),
    "it never sleeps": ("return own_of(device)->waiting == 0;", "return own_of(device) == NULL;"),
    "errors are not counted": ("        device->counters->tx_errors++;\n", ""),
    "bytes are not counted": ("    device->counters->rx_bytes += (uint64_t)length;\n", ""),
    "a packet is sent twice": (
        "    device->counters->tx_packets++;",
        "    if (packet->length == 100)\n        sendmsg(device->fd, &message, MSG_DONTWAIT);\n"
        "    device->counters->tx_packets++;",
    ),
    "the MTU is too small": ("#define MTU 1500u", "#define MTU 1000u"),
    "a frame is written": (
        "    struct msghdr message",
        "    if (packet->count > 1 && packet->pieces[1].frame != UN_NONE)\n"
        "        ((uint8_t *)packet->pieces[1].bytes)[-1]++;\n    struct msghdr message",
    ),
}
"""What may be wrong with a device, as a change to this one."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str, tmp_path: Path) -> None:
    before, after = MISTAKES[mistake]
    assert SOURCE.count(before) == 1
    changed = SOURCE.replace(before, after)
    if "own_flush" in after:
        flush = "static void own_flush(struct un_device *device)\n{\n    (void)device;"
        changed = changed.replace(flush, "static void own_unused(void)\n{")
    library = compiled(changed, tmp_path)
    run = get_context("fork").Process(target=exit_with_failures, args=(library,))
    run.start()
    run.join()
    assert run.exitcode, "no test of the suite has found it"


def exit_with_failures(library: ctypes.CDLL) -> None:
    """In a process of its own: a mistake may end in an assertion of C."""
    suite = DeviceConformance()
    suite.open = lambda: bench(library)  # type: ignore[method-assign]
    tests = [getattr(suite, name) for name in dir(suite) if name.startswith("test_")]
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    os._exit(any(fails(test) for test in tests))


def fails(test: Callable[..., None]) -> bool:
    if "family" in inspect.signature(test).parameters:
        return False  # offloads, of which this device has none
    try:
        test()
    except (AssertionError, OSError):
        return True
    return False
