"""Who watches a server from outside while it changes: new connections and a lasting one ask again and again, and
/readyz is read. Nobody may wait for longer than a client does; usnet-bench reload measures how long they do."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType

from support.apps import ask
from support.server import Server

PAUSE_S = 0.005


class Prober:
    """with Prober(server) as prober: …; prober.assert_served()"""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._come_again, self._stay, self._look)]
        self.answers: set[bytes] = set()
        self.asked = 0
        self.trouble: list[str] = []

    def __enter__(self) -> Prober:
        self._lasting = self._server.connect()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self._server.wait("enough was asked", lambda: self.asked > 10 or self.trouble)
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._lasting.close()

    def assert_served(self) -> None:
        assert not self.trouble, "\n".join([*self.trouble[:5], self._server.log])

    def _come_again(self) -> None:
        def once() -> None:
            with self._server.connect() as client:
                self._exchange(client)

        self._again(once)

    def _stay(self) -> None:
        self._again(lambda: self._exchange(self._lasting))

    def _look(self) -> None:
        def once() -> None:
            if (code := self._server.get("/readyz")[0]) != 200:
                raise OSError(f"/readyz answers {code}")

        self._again(once)

    def _exchange(self, client: socket.socket) -> None:
        answer = ask(client)
        if not answer:
            raise OSError("no answer, but an end")
        self.answers.add(answer)
        self.asked += 1

    def _again(self, once: object) -> None:
        assert callable(once)
        while not self._stop.is_set():
            try:
                once()
            except OSError as error:
                self.trouble.append(f"{once.__qualname__}: {error}")
                return
            time.sleep(PAUSE_S)
