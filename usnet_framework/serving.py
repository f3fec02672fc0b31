"""Serve a handler class: from code with `serve`, from the command line with `run`.

The supervisor is only imported when one of them is called: every worker imports this package as well and needs none of
it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from setproctitle import setproctitle

from usnet_framework import inherited, logs
from usnet_framework.app import is_importing
from usnet_framework.errors import UsageError
from usnet_framework.handler import Handler

if TYPE_CHECKING:
    from usnet_framework.config import Config
    from usnet_framework.shards.supervisor import Supervisor


def serve(handler: type[Handler], **options: Any) -> None:
    """Serve `handler` until SIGINT, SIGTERM or `usnet-ctl stop`.

    `options` are those of the command line, by the names of the fields of Config: `serve(Echo,
    bind="tcp://[::]:7000")`. The class has to be importable by worker processes: from a module, or from the script that
    is running, which workers import under another name, so keep this call below `if __name__ == "__main__":`. Signals
    are handled when the caller is the main thread; where a loop runs in it already (a notebook) the server gets a
    thread of its own, and an interrupt stops it.

    Raises UsageError or StartupError.
    """
    from usnet_framework.config import Config
    from usnet_framework.shards.supervisor import Supervisor

    if is_importing():
        raise UsageError('serve() is called wherever the module is imported; put it below if __name__ == "__main__":')
    app, app_dir = locate(handler)
    config = replace(Config.from_values(**{"app_dir": app_dir, **options}), app=app)
    if not logging.getLogger().handlers and sys.stderr is not None:  # it was closed when this program started
        logs.configure(config.log_level, config.log_format, "supervisor")
    supervisor = Supervisor(config)
    with inherited.serving():
        if _loop_is_running():
            _run_in_thread(supervisor)
        else:
            _run(supervisor)


def run(config: Config, read: Callable[[], Config]) -> int:
    """Serve until told to stop; the exit code. `read` reads the options again, for a reload; UsageError. Raises
    UsageError or StartupError. This process is the server's: orphans that become its children are waited for."""
    from usnet_framework.shards import orphans
    from usnet_framework.shards.supervisor import Supervisor

    setproctitle("usnet: supervisor")
    _run(Supervisor(config, read), reaps=orphans.are_ours())
    return 0


def locate(handler: type[Handler]) -> tuple[str, str]:
    """(`app`, `app_dir`) by which a worker finds the class. UsageError when it cannot."""
    if not (isinstance(handler, type) and issubclass(handler, Handler)):
        raise UsageError(f"serve({handler!r}): expected a class derived from usnet_framework.Handler")
    module = sys.modules.get(handler.__module__)
    name = handler.__qualname__
    if "<locals>" in name:
        raise UsageError(f"{name}: a class within a function cannot be imported by workers; move it out")
    if module is None or (file := getattr(module, "__file__", None)) is None:
        raise UsageError(f"{name}: was defined interactively, and workers cannot import it; put it into a file")
    path = Path(os.path.abspath(file))  # links are followed for each generation (shards/release.py)
    if module.__name__ == "__main__" and _run_as_module(module) is None:
        return f"{path}:{name}", str(path.parent)
    module_name = _run_as_module(module) or module.__name__
    depth = module_name.count(".") + (path.name == "__init__.py")
    return f"{module_name}:{name}", str(path.parents[depth])


def _run_as_module(module: ModuleType) -> str | None:
    """The name that `python -m` was given, if that is how this program was started; a folder or an archive that is
    started has `__main__` there."""
    name = module.__spec__.name if module.__name__ == "__main__" and module.__spec__ is not None else None
    return None if name == "__main__" else name


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_in_thread(supervisor: Supervisor) -> None:
    """The supervisor's loop in a thread of its own, which children take for their parent."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _run(supervisor)
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, name="usnet supervisor")
    try:
        thread.start()  # returns when this thread runs again; the server may have served for long by then
        thread.join()
    except KeyboardInterrupt:
        supervisor.stop_from_thread()
        with suppress(RuntimeError):  # it did not begin yet, and will end when it does
            thread.join()
    if failures:
        raise failures[0]


def _run(supervisor: Supervisor, *, reaps: bool = False) -> None:
    asyncio.run(_supervise(supervisor, reaps))


async def _supervise(supervisor: Supervisor, reaps: bool) -> None:
    if reaps:
        _reap_orphans()
    if threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, supervisor.stop)
        loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    if supervisor.config.metrics == "off":
        await supervisor.run()
    else:
        await _run_with_metrics(supervisor)


def _reap_orphans() -> None:
    from usnet_framework.shards.orphans import Orphans

    Orphans(asyncio.get_running_loop().call_later).begin()


async def _run_with_metrics(supervisor: Supervisor) -> None:
    from usnet_framework.metrics import MetricsServer

    metrics = MetricsServer(supervisor, supervisor.config.metrics)
    supervisor.note(metrics.finding)
    try:
        metrics.start()
        await supervisor.run()
    finally:
        metrics.close()  # half a second at most, and the loop has nothing else to do
