"""The cffi module over native/include, as a type checker sees it; only `_native` and its siblings import it."""

from typing import Any

ffi: Any
lib: Any
