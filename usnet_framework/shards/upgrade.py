"""An engine is replaced by one of another version, its connections open (native/src/engine/network.h).

The keeper takes engines out of a file that it was given open, so what is installed meanwhile changes nothing until it
is asked for. The engine in office confirms the request and makes room; the next one says that it is READY, or the last
one does, after the other could not go on with what it found.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from mmap import mmap
from types import TracebackType
from typing import Self

from usnet_framework.errors import StartupError, UsnetError
from usnet_framework.installed import installed
from usnet_framework.shards.segment import memory_file

ENGINE = "bin/usnet-engine.so"
NAME = struct.Struct("<QQ")  # device, inode: struct un_engine_name
TIMEOUT_S = 20.0
"""Far more than an engine takes to start. Then nobody knows which one will; the log tells."""


class UpgradeRefused(UsnetError):
    """The engine in office goes on. One line."""


class EngineFile:
    """The file as it is installed now, open. StartupError: it is not there, or cannot be read."""

    def __init__(self) -> None:
        path = installed(ENGINE)
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            fix = "; install usnet_framework again" if isinstance(error, (FileNotFoundError, PermissionError)) else ""
            raise StartupError(f"cannot open {path}: {error.strerror}{fix}") from None

    def fileno(self) -> int:
        return self._fd

    def keep(self) -> EngineFile:
        """The same, left open by the `with` that it is in."""
        kept = EngineFile.__new__(EngineFile)
        kept._fd, self._fd = self._fd, -1
        return kept

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EngineName:
    """Says which file the keeper may take another engine out of, in a page that it reads and nobody but us can write.

    The request, and the descriptor with it, go through the engine in office. That parses what strangers send, so its
    word is not taken for it (native/src/engine/enginefile.h)."""

    def __init__(self) -> None:
        fd = memory_file("usnet-engine-name", NAME.size)
        try:
            self._page = mmap(fd, NAME.size)
            self._fd = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(fd)

    def fileno(self) -> int:
        """For the keeper: it cannot be written through this."""
        return self._fd

    def say(self, file: EngineFile) -> None:
        status = os.fstat(file.fileno())
        NAME.pack_into(self._page, 0, status.st_dev, status.st_ino)

    def close(self) -> None:
        self._page.close()
        os.close(self._fd)


class Upgrade:
    """One of a shard's engine. `ask` sends the request; it is repeated when an engine died before it confirmed."""

    def __init__(self, shard: int, ask: Callable[[], None]) -> None:
        self._shard = shard
        self._ask = ask
        self._is_confirmed = False
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ask()

    async def done(self) -> None:
        """Return when the new engine serves. UpgradeRefused."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._done
        except TimeoutError:
            raise UpgradeRefused(f"shard {self._shard}: no engine was ready within {TIMEOUT_S:g} s") from None

    def confirmed(self, error: int) -> None:
        self._is_confirmed = True
        if error:
            self.refuse(os.strerror(error))

    def engine_ready(self, refusal: str) -> None:
        """`refusal` is empty, or why the new one could not be it."""
        if not self._is_confirmed:
            self._ask()
        elif refusal:
            self.refuse(refusal)
        elif not self._done.done():
            self._done.set_result(None)

    def refuse(self, why: str) -> None:
        if not self._done.done():
            self._done.set_exception(UpgradeRefused(f"shard {self._shard}: {why}"))
