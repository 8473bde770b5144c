"""Secrets from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyclone_sse.access.secret_file import MAX_FILE, read_secrets


def test_each_line_is_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_bytes(" new \r\n\nöld\n".encode())
    assert read_secrets("http-secret-file", str(file)) == ("new", "öld")


def test_a_byte_order_mark_is_no_part_of_the_secret(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_bytes("\ufeffnew\r\nold\r\n".encode())
    assert read_secrets("http-secret-file", str(file)) == ("new", "old")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "there is no secret in it"),
        (b"\n \n", "there is no secret in it"),
        (b"\xff", "not UTF-8"),
        (b"short\n" + b"x" * 32, "at least 32 bytes in each line"),
        (b"x" * (MAX_FILE + 1), "more than 65536 bytes"),
    ],
)
def test_a_file_that_will_not_do_is_one_line(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "secrets"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=f"^--jwt-secret-file={file}: .*{words}") as raised:
        read_secrets("jwt-secret-file", str(file), 32)
    assert "short" not in str(raised.value)
