"""Which user the processes of a server run as, and what they give up (P14).

The supervisor understands what is asked for; each child carries it out before it looks at anything that peers or the
application wrote: a keeper by its command line, a worker, spares among them, by the message that names the application.
All that children use is handed to them as descriptors, which stay open: neither the sockets of ports below 1024, nor
memory, nor queues of a packet device ask who uses them.

Network processes always give up all capabilities. Workers do with --user; without it they run the user's code with what
the server was started with.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usnet_framework.config import Config
from usnet_framework.errors import StartupError, UsageError
from usnet_framework.shards.cgroup import read_text
from usnet_framework.shards.findings import Finding

NEEDED = {"CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}
"""To run children as another user: it takes CAP_KILL to end them, or for the kernel to do so when the supervisor
dies."""

OF_DEVICES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_IPC_LOCK": 14, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""For the interface of a packet device. Numbers are those of capabilities(7)."""


@dataclass(frozen=True)
class Account:
    """A user with a group, and the groups that the user is in besides."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def is_ours(self) -> bool:
        """Nothing changes."""
        return (self.uid, self.gid) == (os.geteuid(), os.getegid())


@dataclass(frozen=True)
class Privileges:
    """`account` is None without --user."""

    account: Account | None = None
    debuggable: bool = False

    @property
    def change_user(self) -> bool:
        return self.account is not None and not self.account.is_ours

    def of_network_process(self) -> list[str]:
        """Arguments of usnet-network."""
        account = self.account
        return ["--user", str(account.uid), "--group", str(account.gid)] if account and self.change_user else []

    def of_worker(self) -> dict[str, Any]:
        """For its message `load`; carried out in importer.py."""
        asked: dict[str, Any] = {"debuggable": self.debuggable, "user": None, "change": None, "environment": {}}
        if (account := self.account) is not None:
            asked["user"] = account.name
            asked["change"] = (account.uid, account.gid, account.groups) if self.change_user else None
            asked["environment"] = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
        return asked


def understand(config: Config) -> Privileges:
    """UsageError; StartupError when there is no such user, or this process may not become it."""
    if config.group is not None and config.user is None:
        raise UsageError(f"--group {config.group}: is the group of --user, which is not given: add it")
    account = _account(config.user, config.group) if config.user is not None else None
    if account is not None and not account.is_ours:
        has = capabilities()
        if lacks := [name for name, number in NEEDED.items() if not has >> number & 1]:
            raise StartupError(
                f"--user {config.user}: this process lacks {', '.join(lacks)}; start it as root, or leave --user out"
            )
    return Privileges(account, config.debuggable)


def finding(privileges: Privileges) -> Finding:
    what, account = "user of workers", privileges.account
    if account is not None:
        return Finding(what, account.name, account.name, "network processes run as the same; none has capabilities")
    if os.geteuid() == 0:
        reason = "the server was started as root, and so run the workers"
        return Finding(what, "any", "root", reason, "use --user NAME, they need no privileges", ok=False)
    return Finding(what, "any", _name(os.geteuid()))


def capabilities_finding(*used: str) -> Finding:
    """Of this process: those that a packet device uses (OF_DEVICES), where nothing else does instead."""
    held = capabilities()
    names = [name for name in used if held >> OF_DEVICES[name] & 1]
    others = held.bit_count() - len(names)
    found = ", ".join([*names, *([f"{others} others"] if others else [])]) or "none"
    reason = "" if len(names) == len(used) else "it does without the rest"
    return Finding("capabilities", ", ".join(used), found, reason)


def networks_finding(networks: Sequence[int]) -> Finding:
    """Network processes of these numbers have given theirs up."""
    what = "capabilities of network processes"
    if some := [str(pid) for pid in networks if capabilities(pid)]:
        return Finding(what, "none", f"some: {', '.join(some)}", "they did not give them up", "report it", ok=False)
    return Finding(what, "none", "none")


def syscalls_finding(config: Config, networks: Sequence[int], refused: int) -> Finding:
    """Whether the network processes of these numbers make the system calls that they have a use for, and no others."""
    what, asked = "system calls", config.syscalls
    if config.layout == "inline":
        return Finding(what, asked, "any", "workers are network processes, and run your code")
    if refused:
        reason = f"{refused} calls of network processes were refused; the log has the number of the first"
        return Finding(what, asked, asked, reason, "report it; --syscalls any lets them be made", ok=False)
    if asked != "any" and any(_status(pid).get("Seccomp") == "0" for pid in networks):
        reason = "this machine has no filters of system calls (seccomp)"
        return Finding(what, asked, "any", reason, "use a kernel that has them, or --syscalls any", ok=False)
    return Finding(what, asked, asked)


def _account(user: str, group: str | None) -> Account:
    try:
        found = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise StartupError(f"--user {user}: there is no such user; make one, or name another") from None
    gid = found.pw_gid if group is None else _group(group)
    others = set(os.getgrouplist(found.pw_name, gid)) - {gid}
    return Account(found.pw_name, found.pw_uid, gid, tuple(sorted(others)), found.pw_dir)


def _group(group: str) -> int:
    try:
        return (grp.getgrgid(int(group)) if group.isdecimal() else grp.getgrnam(group)).gr_gid
    except (KeyError, OverflowError):
        raise StartupError(f"--group {group}: there is no such group; make one, or name another") from None


def capabilities(process: int | str = "self") -> int:
    """Those in effect, a bit each."""
    return int(_status(process).get("CapEff", "0"), 16)


def _status(process: int | str) -> dict[str, str]:
    """Of a process, as the kernel has it; empty when it is gone."""
    lines = (line.partition(":") for line in read_text(Path(f"/proc/{process}/status")).splitlines())
    return {name: text.strip() for name, _, text in lines}


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
