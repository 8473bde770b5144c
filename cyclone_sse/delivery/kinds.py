"""Kinds of channel: rules for the channels whose names match a glob, from the TOML file of ``--channels``.

Each table of the file is named by a glob; the first glob that matches the name of a channel applies::

    ["room-*"]
    presence = true
    max_message = 4096

For a channel that no glob matches, the options apply. Plain Python: a look-up costs a comparison with each
glob, once for each name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclone_sse.globs import Glob

_REMEMBERED = 10_000  # names whose kind is known; without a limit, clients could fill the memory with names


@dataclass(frozen=True, slots=True)
class Kind:
    """The rules of one kind of channel; None: the option applies.

    glob: of its names. Without this, the events of two kinds with the same rules would be counted together.
    history_size: events. history_ttl: seconds. presence: whether members are announced. max_message: bytes of
    a message. publish_rate: events a second for each user who publishes with a token.
    """

    glob: str = ""
    history_size: int | None = None
    history_ttl: float | None = None
    presence: bool = False
    max_message: int | None = None
    publish_rate: float | None = None


_PLAIN = Kind()
_NUMBER, _INTEGER = (int, float), (int,)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "history_size": _INTEGER,
    "history_ttl": _NUMBER,
    "presence": (bool,),
    "max_message": _INTEGER,
    "publish_rate": _NUMBER,
}
# As with the options, these bounds keep numbers usable: no clock and no Retry-After can hold any number.
_LEAST: Mapping[str, float] = {"max_message": 1, "publish_rate": 1e-6}  # of the others: 0
_MOST = 1_000_000_000
_EXPECTED: Mapping[tuple[type, ...], str] = {
    _INTEGER: "a whole number",
    _NUMBER: "a number",
    (bool,): "true or false",
}


class Kinds:
    """The kinds, in the order of the file."""

    def __init__(self, kinds: Sequence[Kind] = ()) -> None:
        self._tables = [(Glob(kind.glob), kind) for kind in kinds]
        self._found: dict[str, Kind] = {}
        self.have_presence = any(kind.presence for kind in kinds)  # some kind announces members

    def replace(self, kinds: Kinds) -> None:
        """Have these kinds from now on: the file was read again."""
        self._tables, self._found, self.have_presence = kinds._tables, {}, kinds.have_presence

    def of(self, channel: str) -> Kind:
        """The kind of this channel."""
        if not self._tables:
            return _PLAIN
        kind = self._found.get(channel)
        if kind is None:
            kind = next((kind for glob, kind in self._tables if glob.matches(channel)), _PLAIN)
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[channel] = kind
        return kind

    def __bool__(self) -> bool:
        return bool(self._tables)

    @property
    def longest_ttl(self) -> float:
        """The longest ``history_ttl`` of all kinds, in seconds; 0 if none has one."""
        return max((kind.history_ttl or 0.0 for _, kind in self._tables), default=0.0)


def read_kinds(path: str | None) -> Kinds:
    """Read the file of ``--channels``; None: there is none. Raises ValueError with one line."""
    if not path:
        return Kinds()
    try:
        tables = tomllib.loads(Path(path).read_text("utf-8-sig"))
        return Kinds([_kind(glob, table) for glob, table in tables.items()])
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"--channels={path}: {reason}") from None


def _kind(glob: str, table: object) -> Kind:
    if not isinstance(table, dict):
        raise ValueError(f'{glob} is outside of any table: start the table with ["{"GLOB"}"]')
    for key, value in table.items():
        if key not in _TYPES:
            raise ValueError(f'unknown key {key} in ["{glob}"]: expected one of {", ".join(_TYPES)}')
        _check(glob, key, value)
    return Kind(glob, **table)


def _check(glob: str, key: str, value: Any) -> None:
    types = _TYPES[key]
    if type(value) not in types:  # True is an int, too
        raise ValueError(f'{key} in ["{glob}"]: expected {_EXPECTED[types]}')
    least = _LEAST.get(key, 0)
    if not least <= value <= _MOST:  # which holds for true and false
        raise ValueError(f'{key} in ["{glob}"]: expected {_EXPECTED[types]} from {least:g} to {_MOST}')
