"""The Python servers to compare with: an asyncio.Protocol on asyncio's own loop, and the same on uvloop.

    python -m usnet_framework.bench.peers asyncio Echo HOST PORT

Port 0 lets the system choose; the address is printed once the server listens.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import cast

from usnet_framework.bench.exchange import PIECE, Reader
from usnet_framework.errors import StartupError, UsageError, UsnetError

BACKLOG = 4096


class Echo(asyncio.Protocol):
    """Sends back what comes. Reading stops while the peer does not take the answers, as a server of today does it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()


class Exchange(asyncio.Protocol):
    """Answers as native/bench/exchange.h says."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._reader = Reader()
        self._paused = False

    def data_received(self, data: bytes) -> None:
        self._reader.take(data)
        self._send()

    def _send(self) -> None:
        while self._reader.owed and not self._paused:
            self._transport.write(self._reader.next(PIECE))

    def pause_writing(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._transport.resume_reading()
        self._send()


PROTOCOLS: Mapping[str, Callable[[], asyncio.Protocol]] = {"Echo": Echo, "Exchange": Exchange}


def _uvloop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError as error:
        raise StartupError("uvloop is not installed: pip install 'usnet_framework[bench]', or leave it out") from error
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": _uvloop,
}


async def _serve(protocol: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(protocol, host, port, backlog=BACKLOG)
    address = server.sockets[0].getsockname()
    print(f"listening on {address[0]}:{address[1]}", flush=True)
    await server.serve_forever()


def main(argv: list[str]) -> int:
    try:
        if len(argv) != 4 or argv[0] not in LOOPS or argv[1] not in PROTOCOLS or not argv[3].isdecimal():
            choice = f"{'|'.join(LOOPS)} {'|'.join(PROTOCOLS)}"
            raise UsageError(f"usage: python -m usnet_framework.bench.peers {choice} HOST PORT")
        with asyncio.Runner(loop_factory=LOOPS[argv[0]]) as runner:
            runner.run(_serve(PROTOCOLS[argv[1]], argv[2], int(argv[3])))
    except UsnetError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
