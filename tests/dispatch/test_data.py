"""Received data is shown where it lies, and its frame is given back when nobody looks any more."""

from __future__ import annotations

import gc
import os
import threading

from support.fake_engine import FakeEngine

from usnet_framework import Connection, Handler


class Keeps(Handler):
    def __init__(self) -> None:
        self.views: list[memoryview] = []

    def on_data(self, conn: Connection, data: memoryview) -> None:
        self.views.append(data)


def test_a_view_is_read_only_and_flat(engine: FakeEngine) -> None:
    handler = Keeps()
    engine.port(handler)
    port = engine.port(handler)
    engine.data(engine.connect(), b"hello")
    port.run()
    (view,) = handler.views
    assert view.readonly
    assert view.contiguous
    assert (view.format, view.ndim, view.nbytes) == ("B", 1, 5)
    assert view == b"hello"


def test_a_frame_goes_back_after_the_commit_that_consumed_it(engine: FakeEngine) -> None:
    class Drops(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            data.release()
            released.append(engine.take_releases())

    released: list[list[int]] = []
    port = engine.port(Drops())
    frame = engine.data(engine.connect(), b"x")
    port.run()
    assert released == [[]]
    assert engine.take_releases() == [frame]


def test_a_view_keeps_its_frame(engine: FakeEngine) -> None:
    handler = Keeps()
    port = engine.port(handler)
    conn = engine.connect()
    first = engine.data(conn, b"first")
    second = engine.data(conn, b"second")
    port.run()
    assert engine.take_releases() == []
    assert port.statistics()["held_frames"] == 2
    part = handler.views[0][1:3]
    handler.views[0] = handler.views[1]
    port.commit()
    assert engine.take_releases() == []
    assert part == b"ir"
    del part
    port.commit()
    assert engine.take_releases() == [first]
    handler.views.clear()
    port.commit()
    assert engine.take_releases() == [second]


def test_a_hoarder_gets_copies(engine: FakeEngine) -> None:
    handler = Keeps()
    port = engine.port(handler)
    conn = engine.connect()
    frames = [engine.data(conn, b"%3d" % i) for i in range(engine.config.hold_max + 50)]
    while port.run():
        pass
    copied = frames[engine.config.hold_max :]
    assert engine.take_releases() == copied
    assert port.statistics()["copied_out"] == len(copied)
    assert port.statistics()["held_frames"] == engine.config.hold_max
    assert [bytes(view) for view in handler.views] == [b"%3d" % i for i in range(len(frames))]
    assert all(view.readonly for view in handler.views)
    handler.views.clear()
    engine.data(conn, b"shown again")
    port.run()
    assert port.statistics()["copied_out"] == len(copied)
    assert port.statistics()["held_frames"] == 1


def test_a_view_may_die_in_another_thread(engine: FakeEngine) -> None:
    handler = Keeps()
    port = engine.port(handler)
    conn = engine.connect()
    frames = [engine.data(conn, b"x") for _ in range(20)]
    port.run()
    thread = threading.Thread(target=handler.views.clear)
    thread.start()
    thread.join()
    port.commit()
    assert sorted(engine.take_releases()) == frames


def test_a_sleeping_loop_is_woken_to_give_a_frame_back(engine: FakeEngine) -> None:
    handler = Keeps()
    port = engine.port(handler)
    engine.data(engine.connect(), b"x")
    port.run()
    assert port.sleep()
    handler.views.clear()
    assert os.eventfd_read(port.wake_fd) == 1
    port.awake()
    assert not port.sleep()  # there is something to commit first


def test_views_outlive_the_port(engine: FakeEngine) -> None:
    handler = Keeps()
    port = engine.port(handler)
    engine.data(engine.connect(), b"still here")
    port.run()
    port.close()
    del port
    gc.collect()
    assert handler.views[0] == b"still here"
    handler.views.clear()
    assert engine.take_releases() == []


def test_spare_exporters_are_used_again(engine: FakeEngine) -> None:
    port = engine.port(Keeps())
    conn = engine.connect()
    for i in range(1000):
        engine.data(conn, b"%d" % i)
        port.run()
        assert port.handler.views.pop() == b"%d" % i  # type: ignore[attr-defined]
        port.commit()
        engine.take_releases()
    assert engine.lent == set()
