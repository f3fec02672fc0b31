"""The cffi module over native/include/usnet_bpf.h, as a type checker sees it; only `_native_bpf` imports it."""

from typing import Any

ffi: Any
lib: Any
