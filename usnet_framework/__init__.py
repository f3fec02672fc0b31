"""A multi-core server framework for Python: connections outlive the code."""

from usnet_framework.connection import Connection
from usnet_framework.errors import ConnectionClosed, SendBufferFull
from usnet_framework.handler import CloseReason, Handler, Shard
from usnet_framework.serving import serve

__all__ = ["CloseReason", "Connection", "ConnectionClosed", "Handler", "SendBufferFull", "Shard", "serve"]
