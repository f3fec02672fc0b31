"""The listeners of one shard's engine: which numbers they have there, and what it is still to be told.

The supervisor's listeners come and go (binder.py). An engine is begun with those that there are, numbered in their
order; from then on it follows by requests, each of which it confirms. What was not confirmed is asked once more of the
engine that goes on after a death, so a request may be obeyed twice. A number is free again when the engine has
confirmed that its listener is gone.

A shard that stands back (spread.py) leaves sockets that it shares with others to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from usnet_framework.shards.enginewords import Kind
from usnet_framework.shards.listeners import LISTENERS_MAX, Listener, Listeners


class _State(Enum):
    ASKED = auto()  # to listen
    HELD = auto()
    LEAVING = auto()  # asked not to


@dataclass
class _Entry:
    listener: Listener
    state: _State


Ask = Callable[[Kind, int, Listener], None]
"""Sends LISTEN or UNLISTEN with the number of a listener, if there is an engine."""


class Handover:
    """Of one shard; `ask` sends what `follow` finds to be missing."""

    def __init__(self, listeners: Listeners, ask: Ask) -> None:
        self._listeners = listeners
        self._ask = ask
        self._entries: dict[int, _Entry] = {}
        self._refused: dict[Listener, int] = {}
        self._begun = False
        self._stands_back = False

    def begin(self) -> list[Listener]:
        """What a fresh engine begins with."""
        wanted = self._wanted
        self._entries = {number: _Entry(listener, _State.HELD) for number, listener in enumerate(wanted)}
        self._refused = {}
        self._begun = True
        return wanted

    def end(self) -> None:
        """There is no engine any more, nor what it knew."""
        self._entries = {}
        self._begun = False

    @property
    def settled(self) -> bool:
        """The engine has what there is, or has said that it cannot; or there is none."""
        if not self._begun:
            return True
        held = {entry.listener for entry in self._entries.values()}
        steady = all(entry.state is _State.HELD for entry in self._entries.values())
        return steady and held | self._refused.keys() == {*self._wanted}

    def stand_back(self, on: bool) -> None:
        if on != self._stands_back:
            self._stands_back = on
            self.follow()

    @property
    def _wanted(self) -> list[Listener]:
        return [one for one in self._listeners.open if not (self._stands_back and one.shared)]

    def refusal(self, listener: Listener) -> int:
        """The errno that the engine refused it with, 0: it did not."""
        return self._refused.get(listener, 0)

    def follow(self, again: bool = False) -> None:
        """Ask for what has changed; `again`: and for what was not confirmed, as an engine has died."""
        if not self._begun:
            return
        wanted = self._wanted
        self._refused = {listener: error for listener, error in self._refused.items() if listener in wanted}
        for number, entry in self._entries.items():
            if entry.listener not in wanted or entry.state is _State.LEAVING:
                if again or entry.state is not _State.LEAVING:
                    entry.state = _State.LEAVING
                    self._ask(Kind.UNLISTEN, number, entry.listener)
            elif again and entry.state is _State.ASKED:
                self._ask(Kind.LISTEN, number, entry.listener)
        known = {entry.listener for entry in self._entries.values()} | self._refused.keys()
        for listener in wanted:
            if listener not in known:
                self._give(listener)

    def listen_confirmed(self, number: int, error: int) -> None:
        entry = self._entries.get(number)
        if entry is None or entry.state is not _State.ASKED:
            return
        entry.state = _State.HELD
        if error:
            del self._entries[number]
            self._refused[entry.listener] = error

    def unlisten_confirmed(self, number: int) -> None:
        entry = self._entries.get(number)
        if entry is not None and entry.state is _State.LEAVING:
            del self._entries[number]
            self.follow()  # somebody may wait for the number

    def _give(self, listener: Listener) -> None:
        number = next((free for free in range(LISTENERS_MAX) if free not in self._entries), None)
        if number is not None:
            self._entries[number] = _Entry(listener, _State.ASKED)
            self._ask(Kind.LISTEN, number, listener)
