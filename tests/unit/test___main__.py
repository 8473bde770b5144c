"""The command, as far as it starts nothing; the installed one in tests/integration/test_packaging.py."""

from __future__ import annotations

import os
import sys

import pytest

from cyclone_sse import __main__ as module
from cyclone_sse.__main__ import main


@pytest.mark.parametrize("words", [["--help"], ["token", "--help"], ["cyclone-sse", "--help"]])
def test_a_reader_that_has_enough_ends_the_command_quietly(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        monkeypatch.setattr(sys, "argv", ["cyclone-sse"])
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 1
    assert capfd.readouterr().err == ""


def test_ctrl_c_before_the_server_serves_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_run", interrupted)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 130
