"""Exceptions in callbacks: one connection pays for one, and what is nobody's error leaves the dispatcher."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.fake_engine import Command, FakeEngine, Op
from support.recorder import Recorder

from usnet_framework import CloseReason, Connection, Handler


class Raises(Recorder):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        super().on_data(conn, data)
        if data == b"bad":
            conn.send(b"half an answer")
            raise LookupError("bad")
        conn.send(data)


def test_an_exception_resets_its_connection_alone(engine: FakeEngine) -> None:
    handler = Raises()
    port = engine.port(handler)
    conn, other = engine.connect(0), engine.connect(1)
    engine.data(conn, b"bad")
    engine.data(conn, b"not delivered")
    engine.data(other, b"good")
    port.run()
    assert [type(error) for error in handler.errors] == [LookupError]
    assert engine.committed[0] == 5
    commands = engine.take()
    assert Command(Op.ABORT, conn, CloseReason.ERROR) in commands
    assert Command(Op.SEND, other, b"good") in commands
    assert ("data", conn, b"not delivered") not in handler.calls
    assert port.statistics()["handler_errors"] == 1


def test_on_error_may_keep_the_connection(engine: FakeEngine) -> None:
    class Forgives(Raises):
        def on_error(self, conn: Connection, exception: BaseException) -> bool:
            conn.send(b"sorry")
            return True

    port = engine.port(Forgives())
    conn = engine.connect()
    engine.data(conn, b"bad")
    engine.data(conn, b"good")
    port.run()
    assert engine.sent() == {conn: b"half an answersorrygood"}


def test_the_default_logs_the_connection(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    class Plain(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            raise LookupError("bad")

    port = engine.port(Plain())
    conn = engine.connect(address=("10.1.2.3", 99))
    engine.data(conn, b"x")
    with caplog.at_level(logging.ERROR):
        port.run()
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError
    assert str(conn) in record.getMessage()
    assert record.getMessage() == f"connection {conn} from 10.1.2.3:99: a callback raised"
    assert engine.take() == [Command(Op.ABORT, conn, CloseReason.ERROR)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_on_error_that_raises(engine: FakeEngine) -> None:
    class Hopeless(Raises):
        def on_error(self, conn: Connection, exception: BaseException) -> bool:
            raise OSError("worse")

    port = engine.port(Hopeless())
    conn = engine.connect()
    engine.data(conn, b"bad")
    port.run()
    assert engine.take()[-1] == Command(Op.ABORT, conn, CloseReason.ERROR)


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_what_is_nobodys_error_leaves(engine: FakeEngine, leaving: type[BaseException]) -> None:
    class Interrupted(Recorder):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            super().on_data(conn, data)
            conn.send(data)
            if data == b"stop" and not self.errors:
                self.errors.append(leaving())
                raise self.errors[0]

    handler = Interrupted()
    port = engine.port(handler)
    conn = engine.connect()
    engine.data(conn, b"before ")
    stop = engine.data(conn, b"stop")
    engine.data(conn, b" after")
    with pytest.raises(leaving):
        port.run()
    assert engine.committed == (0, 0)
    assert engine.handling == 1 << 32 | 2  # a process that ends here dies of "stop" (P3)
    assert not engine.is_dirty(conn)  # and has done nothing
    assert handler.calls[-1] == ("data", conn, b"stop")
    port.commit()
    assert engine.is_dirty(conn)  # now it has sent the answer to "stop" and not consumed it
    assert engine.consumed == 2  # CONNECT and "before"
    assert stop not in engine.take_releases()
    assert port.run() == 2
    assert [call[2] for call in handler.calls[1:]] == [b"before ", b"stop", b"stop", b" after"]
    assert engine.handling == 0
    assert not engine.is_dirty(conn)
    assert stop in engine.take_releases()


def test_an_interrupted_close_comes_again(engine: FakeEngine) -> None:
    class Interrupted(Recorder):
        def on_close(self, conn: Connection, reason: CloseReason) -> None:
            super().on_close(conn, reason)
            if len(self.calls) == 2:
                raise KeyboardInterrupt

    handler = Interrupted()
    port = engine.port(handler)
    conn = engine.connect()
    engine.disconnect(conn)
    with pytest.raises(KeyboardInterrupt):
        port.run()
    port.run()
    assert handler.names() == ["connect", "close", "close"]
    assert port.statistics()["objects"] == 0


def test_an_interrupted_resume_comes_again(engine: FakeEngine) -> None:
    class Interrupted(Recorder):
        def on_resume(self, conn: Connection) -> None:
            super().on_resume(conn)
            if len(self.calls) == 1:
                raise KeyboardInterrupt

    handler = Interrupted()
    port = engine.port(handler)
    conn = engine.connect(announce=False)
    engine.data(conn, b"x")
    with pytest.raises(KeyboardInterrupt):
        port.run()
    port.run()
    assert handler.names() == ["resume", "resume", "data"]


@pytest.mark.parametrize(
    "use",
    [
        lambda conn: conn.send(b"x"),
        Connection.send_eof,
        Connection.close,
        Connection.abort,
        Connection.pause_reading,
        Connection.resume_reading,
        lambda conn: setattr(conn, "state", b"x"),
    ],
)
def test_another_thread_is_refused(engine: FakeEngine, use: Callable[[Connection], object]) -> None:
    handler = Recorder()
    port = engine.port(handler)
    conn = engine.connect()
    port.run()
    with ThreadPoolExecutor(1) as threads, pytest.raises(RuntimeError, match="call_soon_threadsafe"):
        threads.submit(use, handler.conns[conn]).result(10)
    port.commit()
    assert engine.take() == []
