"""The notifications for systemd, as its socket receives them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from cyclone_sse.daemon.systemd import SystemdNotifier


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def received(systemd: socket.socket) -> list[str]:
    """All datagrams so far."""
    found = []
    while True:
        try:
            found.append(systemd.recv(1000).decode())
        except BlockingIOError:
            return found


def test_it_is_told_what_the_server_does(systemd: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": systemd.getsockname(), "OTHER": "x"}
    notifier = SystemdNotifier(environment, Clock())
    assert environment == {"OTHER": "x"}, "workers are not to notify"
    notifier.start()
    notifier.send_ready()
    notifier.send_reloading()
    notifier.send_stopping()
    ready, reloading, stopping = received(systemd)
    assert (ready, stopping) == ("READY=1", "STOPPING=1")
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")


@pytest.mark.parametrize(
    ("pid", "count"), [(str(os.getpid()), 4), ("", 4), ("1", 0)], ids=["ours", "none", "another"]
)
def test_the_watchdog_is_fed_twice_in_its_interval(systemd: socket.socket, pid: str, count: int) -> None:
    clock = Clock()
    environment = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": pid}
    SystemdNotifier(environment, clock).start()
    clock.pump([5, 5, 5])
    assert received(systemd) == ["WATCHDOG=1"] * count


def test_an_abstract_address(tmp_path: Path) -> None:
    name = f"cyclone-sse-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        SystemdNotifier({"NOTIFY_SOCKET": f"@{name}"}, Clock()).send_ready()
        assert receiver.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_sent_and_nothing_fails(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "x"}):
        notifier = SystemdNotifier(environment, Clock())
        notifier.start()
        notifier.send_ready()
