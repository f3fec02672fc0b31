"""A multi-core server framework for Python: connections outlive the code.

Names are looked up when they are first asked for: a program of ours has to hear signals before asyncio is imported
(inherited.py)."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usnet_framework.connection import Connection
    from usnet_framework.errors import ConnectionClosed, SendBufferFull
    from usnet_framework.handler import CloseReason, Handler, Shard
    from usnet_framework.serving import serve

if find_spec("usnet_framework._dispatch") is None:
    message = f"{__path__[0]} are the sources, which are not built there: run from another folder, or with python -P"
    raise ImportError(message)

__all__ = ["CloseReason", "Connection", "ConnectionClosed", "Handler", "SendBufferFull", "Shard", "serve"]

_HOMES = {
    "CloseReason": "handler",
    "Connection": "connection",
    "ConnectionClosed": "errors",
    "Handler": "handler",
    "SendBufferFull": "errors",
    "Shard": "handler",
    "serve": "serving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
