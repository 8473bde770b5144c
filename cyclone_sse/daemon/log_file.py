"""The log file: as twistd writes it, but it can be moved away and is then opened anew.

twistd opens the file itself and keeps it to itself; all it offers is to rotate it at SIGUSR1, and
only where there is a file: without one that signal ends the process. It takes another observer
from the application (``ILogObserver``), which is how this one gets its place.
"""

from __future__ import annotations

import os
import pwd
import signal
import stat
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import ILogObserver, textFileLogObserver
from twisted.python.logfile import LogFile

DEFAULT = "twistd.log"  # twistd's own, when it runs in the background


class Log:
    """A log file for ``textFileLogObserver``, of which it is the stream.

    path: where it is. owner: user and group to whom it shall belong, None to leave that.
    Raises OSError when it cannot be opened.
    """

    def __init__(self, path: str, owner: tuple[int, int] | None = None) -> None:
        self._path = os.path.abspath(path)
        self._owner = owner
        self._mode: int | None = None
        self._file = self._open()
        self._mode = stat.S_IMODE(os.stat(self._path).st_mode)

    def _open(self) -> LogFile:
        # A new file is as readable as the first one was: twistd's umask in the background would hide it
        # from whoever collects logs. One that logrotate has made stays as it is.
        file = LogFile.fromFullPath(
            self._path, defaultMode=None if os.path.exists(self._path) else self._mode
        )
        if self._owner is not None and os.geteuid() == 0:
            os.chown(self._path, *self._owner)
        return file  # type: ignore[no-any-return]

    def write(self, text: str) -> None:
        """Add to the file."""
        self._file.write(text)

    def flush(self) -> None:
        """Nothing to do: the file has no buffer."""

    def close(self) -> None:
        """Be done with it."""
        self._file.close()

    def rotate(self) -> None:
        """Move the file aside, as twistd does at SIGUSR1."""
        self._file.rotate()

    def reopen(self) -> None:
        """Go on in the file that is at the path now. Raises OSError, and keeps the old one then."""
        old, self._file = self._file, self._open()
        old.close()


def open_log(flags: Mapping[str, Any]) -> Log | None:
    """The file that these flags of twistd ask for; None where it is standard output or the system's.

    With ``--uid`` it belongs to that user, who could not open it anew otherwise. Raises ValueError.
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


def owner_of(flags: Mapping[str, Any]) -> tuple[int, int] | None:
    """The user and group that twistd's ``--uid`` and ``--gid`` name; None without ``--uid``."""
    uid, gid = flags["uid"], flags["gid"]
    if uid is None:
        return None
    return uid, pwd.getpwuid(uid).pw_gid if gid is None else gid


def observer(log: Log) -> ILogObserver:
    """What writes twistd's log into this file."""
    return textFileLogObserver(log)  # type: ignore[arg-type]


def take_rotate_signal(log: Log | None, later: Callable[[Callable[[], None]], Any]) -> None:
    """SIGUSR1 rotates the log file, as with twistd; without a file it must not end the process.

    later: calls something outside of the signal handler.
    """
    if log is not None:
        rotate = log.rotate
        signal.signal(signal.SIGUSR1, lambda *_: later(rotate))
    elif signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
