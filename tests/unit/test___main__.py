"""The command, as far as it starts nothing; the installed one in tests/integration/test_packaging.py."""

from __future__ import annotations

import os
import sys

import pytest

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
