"""The log file: moved away and opened again, and kept when that fails."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from twisted.python.logfile import LogFile

from cyclone_sse.daemon.log_file import Log, accept_any_text, handle_rotate_signal, open_log

FLAGS = {"logger": None, "syslog": False, "logfile": None, "nodaemon": True, "uid": None, "gid": None}


def test_it_goes_on_in_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "sse.log"
    log = Log(str(path))
    log.write("one\n")
    path.rename(tmp_path / "old.log")
    log.write("two\n")
    log.reopen()
    log.write("three\n")
    log.close()
    assert (tmp_path / "old.log").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"


def test_a_file_that_is_truncated_has_the_next_line_at_its_start(tmp_path: Path) -> None:
    """As by logrotate's copytruncate; it began with zeros."""
    path = tmp_path / "sse.log"
    log = Log(str(path))
    log.write("one\n")
    os.truncate(path, 0)
    log.write("two\n")
    log.close()
    assert path.read_text() == "two\n"


def test_a_line_that_cannot_be_encoded_is_logged(tmp_path: Path) -> None:
    """Such as one with a path that is not UTF-8; it was missing."""
    log = Log(str(tmp_path / "sse.log"))
    log.write("caf\udce9\n")
    log.close()
    with (tmp_path / "output").open("w", encoding="utf-8") as output:
        accept_any_text(output)
        output.write("caf\udce9\n")
    for name in ("sse.log", "output"):
        assert (tmp_path / name).read_bytes() == b"caf\\udce9\n"


def test_a_new_file_is_as_readable_as_the_old_one(tmp_path: Path) -> None:
    """In the background twistd's umask is 0077."""
    path = tmp_path / "sse.log"
    path.touch(0o640)
    path.chmod(0o640)
    log = Log(str(path))
    before = os.umask(0o077)
    try:
        path.unlink()
        log.reopen()
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o604)  # as logrotate does with `create`
        log.reopen()
        assert path.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(before)
        log.close()


def test_it_keeps_the_old_one_where_there_can_be_no_new_one(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    log = Log(str(directory / "sse.log"))
    directory.rename(tmp_path / "gone")
    with pytest.raises(OSError, match="No such file"):
        log.reopen()
    log.write("still here\n")
    log.close()
    assert (tmp_path / "gone" / "sse.log").read_text() == "still here\n"


@pytest.mark.parametrize(
    "flags", [{}, {"logfile": "-"}, {"logger": "mine", "nodaemon": False}, {"syslog": True, "logfile": "a"}]
)
def test_where_the_log_goes_elsewhere_there_is_no_file(flags: dict[str, Any]) -> None:
    assert open_log({**FLAGS, **flags}) is None


def test_in_the_background_it_has_twistd_s_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = open_log({**FLAGS, "nodaemon": False})
    assert log is not None
    log.close()
    assert (tmp_path / "twistd.log").exists()


def test_a_file_that_cannot_be_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"^--logfile=/no/where/a\.log: No such file or directory$"):
        open_log({**FLAGS, "logfile": "/no/where/a.log"})


def test_the_signal_rotates_it(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        log = Log(str(tmp_path / "sse.log"))
        handle_rotate_signal(log, lambda call: call())
        signal.raise_signal(signal.SIGUSR1)
        assert (tmp_path / "sse.log.1").exists()
        log.close()
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        handle_rotate_signal(None, lambda call: call())
        signal.raise_signal(signal.SIGUSR1)  # would end the tests
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_after_a_rotation_without_a_new_file_it_is_opened_as_soon_as_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(str(tmp_path / "sse.log"))
    log.write("before\n")

    def full(file: LogFile) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(LogFile, "_openFile", full)
        log.rotate()
        with pytest.raises(OSError, match="No space"):
            log.write("lost\n")
    log.write("after\n")
    log.rotate()
    log.write("last\n")
    log.close()
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {"sse.log.2": "before\n", "sse.log.1": "after\n", "sse.log": "last\n"}
