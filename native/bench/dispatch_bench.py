"""Nanoseconds per event of the dispatcher, without sockets: a fake engine fills the ring, only `Port.run` is timed.

    python native/bench/dispatch_bench.py [--events N] [--runs N]

Prints a line per handler and batch size: the median over the runs of the time per DATA event (60 bytes, 128
connections), and the best run. `echo` sends every message back; `take` has an on_data that does nothing; `none` does
not define on_data. The ring is filled and the commands are taken by Python code between two timed runs, so caches are
about as cold as between two turns of an event loop. To count instructions instead of time, run one case (`--only
echo:64 --runs 1`) under `valgrind --tool=callgrind --toggle-collect=port_run`.
"""

from __future__ import annotations

import argparse
import contextvars
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from support.fake_engine import FakeEngine

from usnet_framework import Connection, Handler

CONNECTIONS = 128
MESSAGE = bytes(60)


class Echo(Handler):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(data)


class Take(Handler):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        pass


class Nothing(Handler):
    pass


HANDLERS = {"echo": Echo, "take": Take, "none": Nothing}


def measure(handler: Handler, batch: int, batches: int, context: contextvars.Context) -> float:
    """Nanoseconds per event over so many batches. Called in the context, as a loop would."""
    with FakeEngine() as engine:
        port = engine.port(handler)
        port.use_context(context)
        connections = [engine.connect(slot) for slot in range(CONNECTIONS)]
        while port.run():
            pass
        spent = 0
        for number in range(batches):
            for i in range(batch):
                engine.data(connections[(number * batch + i) % CONNECTIONS], MESSAGE)
            start = time.perf_counter_ns()
            done = port.run()
            spent += time.perf_counter_ns() - start
            assert done == batch
            engine.take()
            engine.take_releases()
        port.close()
    return spent / (batch * batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=30_000, help="events in a run (default 30000)")
    parser.add_argument("--runs", type=int, default=7, help="runs of each case (default 7)")
    parser.add_argument("--only", metavar="HANDLER:BATCH", help="one case, as echo:64")
    options = parser.parse_args()
    cases = [(name, batch) for name in HANDLERS for batch in (64, 8, 1)]
    if options.only:
        name, _, batch = options.only.partition(":")
        cases = [(name, int(batch))]
    for name, batch in cases:
        runs = []
        for _ in range(options.runs):
            context = contextvars.copy_context()
            runs.append(context.run(measure, HANDLERS[name](), batch, options.events // batch, context))
        median, best = statistics.median(runs), min(runs)
        print(f"{name:5} batch {batch:2}: median {median:6.0f} ns per event, best {best:6.0f}")


if __name__ == "__main__":
    main()
