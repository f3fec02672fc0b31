"""Shards: processes, their placement, their shared memory, and the supervisor that keeps them."""
