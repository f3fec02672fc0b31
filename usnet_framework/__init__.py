"""A multi-core server framework for Python: connections outlive the code."""

try:
    from usnet_framework.connection import Connection
except ModuleNotFoundError as error:
    if error.name != "usnet_framework._dispatch":
        raise
    message = f"{__path__[0]} are the sources, which are not built there: run from another folder, or with python -P"
    raise ImportError(message) from None
from usnet_framework.errors import ConnectionClosed, SendBufferFull
from usnet_framework.handler import CloseReason, Handler, Shard
from usnet_framework.serving import serve

__all__ = ["CloseReason", "Connection", "ConnectionClosed", "Handler", "SendBufferFull", "Shard", "serve"]
