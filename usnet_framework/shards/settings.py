"""The configuration while the server runs: a reload reads it again.

Options that are marked `live` in config.py are taken over by a reload that succeeds. Of the others a reload says that
they differ, and a finding says so until the server is restarted. What cannot be read refuses the reload: half of a new
configuration is none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from usnet_framework import logs
from usnet_framework.config import Config, Option, options
from usnet_framework.errors import UsageError
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.reload import ReloadRefused

log = logging.getLogger("usnet.supervisor")


class Settings:
    """`read` reads the options anew, None when they were given from code. `news`: of the last reload, to be put behind
    what it answers."""

    def __init__(self, config: Config, read: Callable[[], Config] | None) -> None:
        self.news = ""
        self._in_force = self._asked = self._before = config
        self._read = read

    def read(self) -> Config:
        """What a reload goes on with. ReloadRefused."""
        if self._read is None:
            return self._in_force
        try:
            self._asked = self._read()
        except UsageError as error:
            raise ReloadRefused(str(error)) from None
        return replace(self._in_force, **{option.field: getattr(self._asked, option.field) for option in _live()})

    def take(self, config: Config) -> None:
        """The reload is done: this is in force."""
        before = self._before = self._in_force
        self._in_force = config
        if (before.log_level, before.log_format) != (config.log_level, config.log_format):
            logs.configure(config.log_level, config.log_format, "supervisor")
        taken = [f"{option.key} is {_shown(option, config)}" for option in options() if _differ(option, before, config)]
        waiting = [option.key for option in self._waiting()]
        if waiting:
            taken.append(f"restart the server for {', '.join(waiting)}")
        self.news = "".join(f"; {text}" for text in taken)
        if taken:
            log.log(logging.WARNING if waiting else logging.INFO, "configuration: %s", "; ".join(taken))

    def back(self) -> Config:
        """A rollback is done: what was in force before the last reload is so again. The file stays as it is, and the
        next reload reads it."""
        self.take(self._before)
        return self._in_force

    def findings(self) -> list[Finding]:
        """Options that have to wait for a restart."""
        return [
            Finding(
                what=option.key,
                asked=_shown(option, self._asked),
                in_force=_shown(option, self._in_force),
                reason="was changed since the server started",
                fix="restart the server",
                ok=False,
            )
            for option in self._waiting()
        ]

    def _waiting(self) -> list[Option]:
        return [option for option in options() if not option.live and _differ(option, self._asked, self._in_force)]


def _live() -> list[Option]:
    return [option for option in options() if option.live]


def _differ(option: Option, one: Config, other: Config) -> bool:
    return bool(getattr(one, option.field) != getattr(other, option.field))


def _shown(option: Option, config: Config) -> str:
    value = getattr(config, option.field)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return option.default_text if value is None else str(value)
