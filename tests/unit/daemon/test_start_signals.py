"""Signals that come during the start wait for their handlers."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cyclone_sse.daemon.start_signals import (
    delay_signal,
    delay_signals,
    handle_signal,
    has_no_handler,
    raise_delayed_signals,
)

NUMBER = signal.SIGUSR2


@pytest.fixture(autouse=True)
def default() -> Iterator[None]:
    before = signal.signal(NUMBER, signal.SIG_DFL)
    yield
    signal.signal(NUMBER, before)


def test_a_signal_is_obeyed_once_it_has_a_handler() -> None:
    came: list[int] = []
    delay_signals([NUMBER])
    assert has_no_handler(NUMBER)
    for _ in range(2):
        signal.raise_signal(NUMBER)
    handle_signal(NUMBER, lambda number, _: came.append(number))
    assert not came
    for _ in range(2):
        raise_delayed_signals()
    assert came == [NUMBER]


def test_ctrl_c_is_delayed_as_well() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        delay_signals([signal.SIGINT])
        assert signal.getsignal(signal.SIGINT) is delay_signal
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_is_ignored_stays_so_and_a_handler_stays() -> None:
    def own(number: int, frame: object) -> None:
        pass

    for present in (signal.SIG_IGN, own):
        signal.signal(NUMBER, present)
        delay_signals([NUMBER])
        assert signal.getsignal(NUMBER) is present
        assert not has_no_handler(NUMBER)
    signal.signal(NUMBER, signal.SIG_IGN)
    handle_signal(NUMBER, own)
    assert signal.getsignal(NUMBER) is signal.SIG_IGN


def test_a_program_that_is_started_meanwhile_does_not_inherit_it() -> None:
    delay_signals([NUMBER])
    ended = subprocess.run(
        [sys.executable, "-c", f"import signal; signal.raise_signal({int(NUMBER)})"], check=False
    )
    assert ended.returncode == -NUMBER
