"""The cffi module over native/include/usnet.h, as a type checker sees it; only `_native` imports it."""

from typing import Any

ffi: Any
lib: Any
