"""The log file, in twistd's format, which is opened again after an operator has moved it.

twistd opens its log file itself, without access for others; it only rotates the file at SIGUSR1, and without
a file that signal ends the process. But twistd accepts an observer of the application (``ILogObserver``), and
this module provides one.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import signal
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import TextIOWrapper
from typing import Any, TextIO

from twisted.logger import ILogObserver, textFileLogObserver
from twisted.python.logfile import LogFile

from cyclone_sse.daemon.start_signals import has_no_handler

DEFAULT = "twistd.log"  # twistd's own, when it runs in the background
# Without this, a line with a path that is not UTF-8 would be missing, such as the reason of a failed reload.
UNENCODABLE = "backslashreplace"
MAX_ROTATED = 10  # files of a megabyte that are kept; twistd itself would keep all of them


class _AppendedFile(LogFile):
    """A file to which every line is added at its end."""

    def _openFile(self) -> None:
        super()._openFile()
        # Without this, the next line after a truncation (logrotate's copytruncate) would be written where
        # the old end was, behind as many zeros.
        fcntl.fcntl(self._file, fcntl.F_SETFL, fcntl.fcntl(self._file, fcntl.F_GETFL) | os.O_APPEND)


class Log:
    """A log file for ``textFileLogObserver``, of which it is the stream.

    path: of the file. owner: the user and group to which it will belong, None for those of the process.
    Raises OSError if it cannot be opened.
    """

    def __init__(self, path: str, owner: tuple[int, int] | None = None) -> None:
        self._path = os.path.abspath(path)
        self._owner = owner
        self._mode: int | None = None
        self._file = self._open()
        self._mode = stat.S_IMODE(os.stat(self._path).st_mode)

    def _open(self) -> _AppendedFile:
        # A new file gets the mode of the first one: the umask of a process in the background would hide
        # it from programs that collect logs. A file that logrotate has made keeps its mode.
        file = _AppendedFile.fromFullPath(
            self._path,
            defaultMode=None if os.path.exists(self._path) else self._mode,
            maxRotatedFiles=MAX_ROTATED,
        )
        if self._owner is not None and os.geteuid() == 0:
            os.chown(self._path, *self._owner)
        return file  # type: ignore[no-any-return]

    def write(self, text: str) -> None:
        """Add to the file. Raises OSError if that fails."""
        data = text.encode(errors=UNENCODABLE)
        try:
            self._file.write(data)
        except ValueError:
            # It is closed: it was moved aside, and no new one could be opened, as on a full disk. Without
            # this, nothing would be logged until the next SIGHUP.
            self._file = self._open()
            self._file.write(data)

    def flush(self) -> None:
        """Do nothing: the file has no buffer."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def rotate(self) -> None:
        """Move the file aside, as twistd does at SIGUSR1."""
        with suppress(OSError):  # of a new file that cannot be opened: the next line tries again
            self._file.rotate()

    def reopen(self) -> None:
        """Open the file that is at the path now. Raises OSError, and keeps the old one in that case."""
        old, self._file = self._file, self._open()
        old.close()


def open_log(flags: Mapping[str, Any]) -> Log | None:
    """Open the file that these flags of twistd name; None for standard output and the system's log.

    With ``--uid`` it belongs to that user, so that it can be opened again. Raises ValueError.
    """
    if flags["logger"] or flags["syslog"]:
        return None
    path = flags["logfile"] or ("-" if flags["nodaemon"] else DEFAULT)
    if path == "-":
        return None
    try:
        return Log(path, owner_of(flags))
    except OSError as error:
        raise ValueError(f"--logfile={path}: {error.strerror}") from None


def accept_any_text(stream: TextIO) -> None:
    """Make standard output, to which twistd or a worker may log, accept lines that cannot be encoded."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors=UNENCODABLE)


def owner_of(flags: Mapping[str, Any]) -> tuple[int, int] | None:
    """The user and group of twistd's ``--uid`` and ``--gid``; None without ``--uid``."""
    uid, gid = flags["uid"], flags["gid"]
    if uid is None:
        return None
    return uid, pwd.getpwuid(uid).pw_gid if gid is None else gid


def file_observer(log: Log) -> ILogObserver:
    """Return the observer that writes twistd's log to this file."""
    return textFileLogObserver(log)  # type: ignore[arg-type]


def handle_rotate_signal(log: Log | None, later: Callable[[Callable[[], None]], Any]) -> None:
    """Rotate the log file at SIGUSR1, as twistd does; without a file that signal must not end the process.

    later: calls something outside of the signal handler.
    """
    present = signal.getsignal(signal.SIGUSR1)
    if log is not None and present is not signal.SIG_IGN:
        rotate = log.rotate
        signal.signal(signal.SIGUSR1, lambda *_: later(rotate))
    elif has_no_handler(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
