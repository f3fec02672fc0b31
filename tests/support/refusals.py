"""Command lines of usnet-serve that are refused: the one line that says why.

    assert refused(2, "examples.echo:Echo", "--workers", "0").startswith("--workers: '0'")

`refused_both_ways` and `in_use` ask --check as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from support.server import REPOSITORY, run

AS_ANOTHER_USER = ("setpriv", "--reuid", "64321", "--clear-groups", "--inh-caps", "-all,+dac_read_search",
                   "--ambient-caps", "+dac_read_search")  # fmt: skip  # reads the package wherever it lies


def refused(
    code: int, *args: str, cwd: Path = REPOSITORY, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> str:
    """The one line of a usnet-serve that does not start. What it did before may be in the log, but no trouble."""
    done = run("usnet-serve", *args, cwd=cwd, env=env, prefix=prefix)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    *records, line = done.stderr.splitlines()
    assert all(" info " in record for record in records), done.stderr
    assert line.startswith("usnet-serve: ")
    return line.removeprefix("usnet-serve: ")


def refused_both_ways(
    code: int, *args: str, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> str:
    """By starting and by --check, in the same words."""
    line = refused(code, *args, env=env, prefix=prefix)
    assert refused(code, *args, "--check", env=env, prefix=prefix) == line
    return line


def in_use(*args: str, env: Mapping[str, str] | None = None) -> str:
    """By starting, and by --check, which says besides what it would be."""
    line = refused(3, *args, env=env)
    done = run("usnet-serve", *args, "--check", env=env)
    assert (done.returncode, done.stderr) == (3, f"usnet-serve: {line}\n")
    assert f"in use       {line}\n" in f"{done.stdout}\n"
    return line
