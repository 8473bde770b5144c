"""The command line of the plugin, as twistd reads it.

A value is read from the command line, otherwise from the environment (``CYCLONE_SSE_HTTP_SECRET`` for
``--http-secret``), otherwise from the file that ``--config`` names, and otherwise is the default. An empty
value means "not set", so that a file can list every option. Each mistake is printed in one line, and the exit
code is not zero.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from getopt import GetoptError
from pathlib import Path
from typing import Any, ClassVar

from twisted.python import usage

from cyclone_sse import __version__
from cyclone_sse.options import DEFAULTS, ENVIRONMENT, OPTIONS, WORKER_VARIABLE, Option, with_defaults
from cyclone_sse.values import without_userinfo

_REPEATABLE = {"cors-origin": ",", "endpoint": " "}  # each with its separator
_NAMES = {row.name for row in OPTIONS}
_VARIABLES = {row.variable: row.name for row in OPTIONS}
_COMMANDS_FIRST = "a command comes first: cyclone-sse check, publish or token"

# Kubernetes describes each Service to each pod: for one called cyclone-sse, or cyclone-sse-redis, by
# variables that begin with our prefix. Without this the server would take them for its options.
_SERVICE_LINK = re.compile(r".*_SERVICE_(HOST|PORT(_.+)?)|.*_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")


class _Default(str):
    """A default value, distinguishable from the same value given by the user."""


def _shown(row: Option) -> tuple[_Default | None, str]:
    """Return the default and the help text as Twisted shows them; Twisted omits a missing default."""
    if not row.default:
        return None, row.help if "[default: " in row.help else f"{row.help} [default: none]"
    return _Default(row.default), row.help


def _collect(name: str) -> Callable[[Any, str], None]:
    """Return the method to which Twisted passes each value of a repeatable option."""
    (row,) = [row for row in OPTIONS if row.name == name]

    def collect(self: Any, value: str) -> None:
        self[name] = _REPEATABLE[name].join(filter(None, (self.get(name), value)))

    collect.__doc__ = f"{row.help} [default: {row.default or 'none'}]"
    return collect


class Options(usage.Options):
    """The plugin's command line, a dict of values by their long names.

    words: the command line as it came, for the workers. mistakes: one line for each, with ``--check=1``.
    """

    synopsis = "[options]"
    longdesc = (
        f"Each option can also be set in the environment ({ENVIRONMENT}HTTP_SECRET for --http-secret) or in "
        "the file that --config names. The command line counts first, then the environment, then the file."
    )
    optParameters: ClassVar = [
        [row.name, row.short, *_shown(row)] for row in OPTIONS if row.name not in _REPEATABLE
    ]
    parent: Any = None  # twistd's own options

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._file_name: str | None = None
        self._file: Mapping[str, str] = {}
        self.words: Sequence[str] = ()
        self.mistakes: list[str] = []
        super().__init__()

    opt_h = usage.Options.opt_help

    def opt_version(self) -> None:
        """Display the version of cyclone-sse and exit."""
        print(f"cyclone-sse {__version__}")
        raise SystemExit(0)

    def parseArgs(self, *words: str) -> None:
        """Accept options only. Raises UsageError."""
        if words:
            raise usage.UsageError(f"{words[0]!r} is not an option; {_COMMANDS_FIRST}")

    opt_cors_origin = _collect("cors-origin")
    opt_endpoint = _collect("endpoint")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read a command line. Exits with one line for each mistake.

        twistd itself would print all of its help, and exit with 0.
        """
        self.words = list(options or ())
        _omit_pid_file(self.parent)
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            cause = error.__context__
            wrong = cause.opt if isinstance(cause, GetoptError) else ""
            similar = "" if wrong in _NAMES else _similar(wrong, _NAMES, "--")
            raise SystemExit(f"cyclone-sse: {error}{similar}") from None

    def postOptions(self) -> None:
        """Turn every text into its value. Exits with one line for each mistake.

        With ``--check=1`` the lines are kept in ``mistakes``, and the check adds more.
        """
        wrong: dict[str, str] = {}
        unknown = list(unknown_variables(self._environment))
        try:
            self._file_name = self._text(_CONFIG)
            self._file = read_config(self._file_name)
        except ValueError as error:
            wrong["config"] = str(error)
        for row in OPTIONS:
            try:
                self[row.name] = self._value(row)
            except ValueError as error:
                self[row.name] = DEFAULTS[row.name]
                wrong[row.name] = str(error)
        self.update(with_defaults(self))  # the defaults that follow from other options
        together = [line for names, line in conflicts(self) if not wrong.keys() & names]
        self.mistakes = [*wrong.values(), *unknown, *together]
        if self.mistakes and not self["check"]:
            raise SystemExit(as_lines(self.mistakes))

    def _sources(self, row: Option) -> Iterator[tuple[str, str]]:
        """Return each text for an option and its source, in the order of precedence."""
        given = self.get(row.name)
        if given and not isinstance(given, _Default):
            yield f"--{row.name}", given
        inherited = self._environment.get(row.variable, "")
        if not (row.variable.endswith("_PORT") and _SERVICE_ADDRESS.fullmatch(inherited)):
            yield row.variable, inherited
        yield f"{self._file_name}: {row.name}", self._file.get(row.name, "")

    def _text(self, row: Option) -> str | None:
        return next((text for _, text in self._sources(row) if text), row.default)

    def _value(self, row: Option) -> Any:
        source, text = next(
            ((source, text) for source, text in self._sources(row) if text), ("", row.default)
        )
        if text is None:
            return None
        try:
            return row.read(text)
        except ValueError as error:
            shown = source if row.private else f"{source}={without_userinfo(text)}"
            raise ValueError(f"{shown}: {error}") from None


(_CONFIG,) = [row for row in OPTIONS if row.name == "config"]


def _omit_pid_file(flags: Any) -> None:
    """Write no twistd.pid in the foreground, unless --pidfile is given.

    Without this a second server in the same directory does not start; nor does the same server after a
    crash, if another process has got its number.
    """
    given = any(word.startswith("--pid") for word in sys.argv)
    if flags is not None and flags["nodaemon"] and not given:
        flags["pidfile"] = ""


def unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Return one line for each variable with our prefix that is not an option.

    Without this a misspelt CYCLONE_SSE_HTTP_SECRETS would leave the server open to all.
    """
    for name, value in environment.items():
        if not name.startswith(ENVIRONMENT) or name in _VARIABLES or name == WORKER_VARIABLE:
            continue
        if _SERVICE_LINK.fullmatch(name) or _SERVICE_ADDRESS.fullmatch(value):
            continue
        yield f"{name}: there is no such option{_similar(name, _VARIABLES)}"


def read_config(path: str | None) -> dict[str, str]:
    """Read a file of options, one ``name=value`` on each line; ``--name=value`` means the same.

    Empty lines, and those that start with #, are ignored. A repeatable option may be on several lines. Raises
    ValueError, with one line.
    """
    found: dict[str, str] = {}
    if not path:
        return found
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()  # Windows editors begin a file with a BOM
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ValueError(f"--config={path}: {reason}") from None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = (part.strip() for part in text.partition("="))
        name = name.removeprefix("--")
        if name not in _NAMES:
            raise ValueError(f"{path}, line {number}: there is no option {name!r}{_similar(name, _NAMES)}")
        if not equals:
            raise ValueError(f"{path}, line {number}: expected {name}=value")
        if name == "config" and value:
            raise ValueError(f"{path}, line {number}: an options file cannot name another one")
        if name in _REPEATABLE and found.get(name):
            value = _REPEATABLE[name].join((found[name], value))
        found[name] = value
    return found


def _similar(name: str, names: Iterable[str], before: str = "") -> str:
    close = get_close_matches(name, list(names), 1)
    return f"; did you mean {before}{close[0]}?" if close else ""


def as_lines(mistakes: Iterable[str]) -> str:
    """Return the text for the terminal, one line for each mistake."""
    return "\n".join(f"cyclone-sse: {line}" for line in mistakes)


def conflicts(settings: Mapping[str, Any]) -> Iterator[tuple[set[str], str]]:
    """Return the options that contradict each other although each value is valid: their names, and a line."""
    export, broker = settings["export"], settings["broker"]
    if export and not (settings["export-host"] and settings["export-port"]):
        yield {"export-host", "export-port"}, f"--export={export} needs --export-host and --export-port"
    if not settings["port"] and not settings["use-ssl"] and not settings["endpoint"]:
        yield {"use-ssl"}, "--port=0 needs --use-ssl=1 or an --endpoint"
    if settings["workers"] > 1 and broker == "http":
        yield {"broker"}, "--workers needs a broker that all share: --broker=redis-stream, redis or amqp"
    if settings["history-file"] and broker != "http":
        yield {"broker"}, f"--history-file works only with --broker=http, not with {broker}"
    if settings["history-file"] and not (settings["history-size"] and settings["history-ttl"]):
        both = "a --history-size and a --history-ttl above 0"
        yield {"history-size", "history-ttl"}, f"--history-file needs {both}"
    if settings["jwt-secret"] and settings["jwt-keys"]:
        yield set(), "--jwt-secret and --jwt-keys: set only one of them"
