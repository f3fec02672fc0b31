"""What the driver of an interface can do for XDP programs and AF_XDP sockets, as the kernel's netdev family of generic
netlink tells it since Linux 6.3. Nothing is tried, and asking takes no privilege."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from usnet_framework.shards.rtnetlink import attribute, attributes, index_of, number_in

_HEADER = struct.Struct("=IHHIIBBxx")  # struct nlmsghdr and struct genlmsghdr
_NETLINK_GENERIC = 16
_REQUEST = 1  # NLM_F_REQUEST
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_GET_DEVICE, _INDEX, _XDP_FEATURES, _XSK_FEATURES = 1, 1, 3, 6
_BASIC, _XSK_ZERO_COPY, _RX_SEVERAL = 1 << 0, 1 << 3, 1 << 5  # enum netdev_xdp_act
_TX_CHECKSUM = 1 << 1  # enum netdev_xsk_flags
_REPLY_BYTES_MAX = 1 << 16
_REPLY_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class XdpFeatures:
    """`large`: packets in several buffers. `tx_checksum`: in zero-copy it completes checksums that are left to it."""

    native: bool
    zero_copy: bool
    large: bool
    tx_checksum: bool


def xdp_features(interface: str) -> XdpFeatures | None:
    """None: the kernel does not tell, or there is no such interface."""
    with suppress(OSError, KeyError, struct.error):
        index = struct.pack("=I", index_of(interface))
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as kernel:
            kernel.settimeout(_REPLY_TIMEOUT_S)
            family = number_in(_ask(kernel, _CONTROL, _GET_FAMILY, _FAMILY_NAME, b"netdev\0")[_FAMILY_ID])
            found = _ask(kernel, family, _GET_DEVICE, _INDEX, index)
        xdp, xsk = number_in(found[_XDP_FEATURES]), number_in(found.get(_XSK_FEATURES, b""))
        return XdpFeatures(
            native=bool(xdp & _BASIC),
            zero_copy=bool(xdp & _XSK_ZERO_COPY),
            large=bool(xdp & _RX_SEVERAL),
            tx_checksum=bool(xsk & _TX_CHECKSUM),
        )
    return None


def _ask(kernel: socket.socket, family: int, command: int, which: int, value: bytes) -> dict[int, bytes]:
    """OSError: the kernel refuses."""
    asked = attribute(which, value)
    kernel.send(_HEADER.pack(_HEADER.size + len(asked), family, _REQUEST, 1, 0, command, 1) + asked)
    reply = kernel.recv(_REPLY_BYTES_MAX)
    if _HEADER.unpack_from(reply)[1] != family:
        raise OSError("it is an error")
    return dict(attributes(reply[_HEADER.size :]))
