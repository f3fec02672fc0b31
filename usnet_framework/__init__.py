"""A multi-core server framework for Python: connections outlive the code."""

from usnet_framework.connection import Connection
from usnet_framework.handler import CloseReason, Handler

__all__ = ["CloseReason", "Connection", "Handler"]
