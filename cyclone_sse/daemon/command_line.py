"""The command line of the plugin, as twistd reads it.

A value comes from the command line, else from the environment (``CYCLONE_SSE_HTTP_SECRET`` for
``--http-secret``), else it is the default. An empty value means "not set", so that a
configuration file can list every option. Whatever is wrong is one line each, and a non-zero exit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from twisted.python import usage

from cyclone_sse import __version__
from cyclone_sse.options import DEFAULTS, ENVIRONMENT, OPTIONS, Option, with_defaults

_REPEATABLE = ("cors-origin", "endpoint")


class _Default(str):
    """A default, to be told from the same value given by the user."""


def _shown(row: Option) -> tuple[_Default | None, str]:
    """Twisted's own form of the default and the help; it says nothing about a missing default."""
    if not row.default:
        return None, row.help if "default" in row.help else f"{row.help} [default: none]"
    return _Default(row.default), row.help


def _collecting(name: str, separator: str) -> Callable[[Any, str], None]:
    """The method by which Twisted gives us each value of an option that may be repeated."""
    (row,) = [row for row in OPTIONS if row.name == name]

    def collect(self: Any, value: str) -> None:
        self[name] = separator.join(filter(None, (self.get(name), value)))

    collect.__doc__ = f"{row.help} [default: {row.default or 'none'}]"
    return collect


class Options(usage.Options):
    """The plugin's command line, a dict of values by their long names."""

    synopsis = "[options]"
    longdesc = (
        f"Each option can come from the environment: {ENVIRONMENT}HTTP_SECRET for --http-secret, "
        "and so on. The command line wins."
    )
    optParameters: ClassVar = [
        [row.name, row.short, *_shown(row)] for row in OPTIONS if row.name not in _REPEATABLE
    ]

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        super().__init__()

    opt_h = usage.Options.opt_help

    def opt_version(self) -> None:
        """Display the version of cyclone-sse and exit."""
        print(f"cyclone-sse {__version__}")
        raise SystemExit(0)

    def parseArgs(self, *words: str) -> None:
        """Take nothing but options. Raises UsageError."""
        if words:
            raise usage.UsageError(f"{words[0]!r} is not an option")

    opt_cors_origin = _collecting("cors-origin", ",")
    opt_endpoint = _collecting("endpoint", " ")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read a command line. Exits with one line about each thing that is wrong: twistd itself
        would print all of its help, and exit as if all were well."""
        self.words = list(options or ())  # as they came, for another process
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"cyclone-sse: {error}") from None

    def postOptions(self) -> None:
        """Turn every value into what it means. Exits with a line for each that is wrong.

        With ``--check`` they are kept in ``mistakes``: there may be more, which it finds.
        """
        wrong: dict[str, str] = {}
        for row in OPTIONS:
            try:
                self[row.name] = self._value(row)
            except ValueError as error:
                self[row.name] = DEFAULTS[row.name]
                wrong[row.name] = str(error)
        self.update(with_defaults(self))  # what follows from other options
        together = [line for names, line in conflicts(self) if not wrong.keys() & names]
        self.mistakes = [*wrong.values(), *together]
        if self.mistakes and not self["check"]:
            raise SystemExit(as_lines(self.mistakes))

    def _value(self, row: Option) -> Any:
        source = f"--{row.name}"
        value = self.get(row.name)
        if not value or isinstance(value, _Default):
            inherited = self._environment.get(row.variable)
            if inherited:
                source, value = row.variable, inherited
            else:
                value = row.default
        if value is None:
            return None
        try:
            return row.read(value)
        except ValueError as error:
            shown = source if row.private else f"{source}={value}"
            raise ValueError(f"{shown}: {error}") from None


def as_lines(mistakes: Iterable[str]) -> str:
    """What goes to the terminal: one line for each."""
    return "\n".join(f"cyclone-sse: {line}" for line in mistakes)


def conflicts(settings: Mapping[str, Any]) -> Iterator[tuple[set[str], str]]:
    """What is wrong with these options together, though each of them is well: which, and why."""
    export, broker = settings["export"], settings["broker"]
    if export and not (settings["export-host"] and settings["export-port"]):
        yield {"export-host", "export-port"}, f"--export={export} needs --export-host and --export-port"
    if not settings["port"] and not settings["use-ssl"] and not settings["endpoint"]:
        yield {"use-ssl"}, "--port=0 needs --use-ssl=1 or an --endpoint"
    if settings["workers"] > 1 and broker == "http":
        yield {"broker"}, "--workers needs a broker that all share: --broker=redis-stream, redis or amqp"
    if settings["history-file"] and broker != "http":
        yield {"broker"}, f"--history-file goes with --broker=http, not with {broker}"
    if settings["history-file"] and not (settings["history-size"] and settings["history-ttl"]):
        both = "a --history-size and a --history-ttl above 0"
        yield {"history-size", "history-ttl"}, f"--history-file needs {both}"
    if settings["jwt-secret"] and settings["jwt-keys"]:
        yield set(), "--jwt-secret and --jwt-keys: give one of them"
