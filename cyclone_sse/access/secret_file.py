"""Secrets from a file, one on each line, all of them valid, so that one can be replaced while the server
runs.

For Docker's secrets and systemd's LoadCredential. Plain Python.
"""

from __future__ import annotations

from pathlib import Path

MAX_FILE = 65536  # bytes


def read_secrets(option: str, path: str, least: int = 1) -> tuple[str, ...]:
    """The secrets in this file, each of at least this number of bytes; empty lines are ignored.

    option: that names the file. Raises ValueError, in one line without any of the content.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise ValueError(f"this file has more than {MAX_FILE} bytes")
        secrets = tuple(filter(None, map(str.strip, content.decode("utf-8-sig").splitlines())))
    except OSError as error:
        raise ValueError(f"--{option}={path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"--{option}={path}: this is not UTF-8") from None
    except ValueError as error:
        raise ValueError(f"--{option}={path}: {error}") from None
    if not secrets:
        raise ValueError(f"--{option}={path}: there is no secret in it")
    if min(len(secret.encode()) for secret in secrets) < least:
        raise ValueError(f"--{option}={path}: expected at least {least} bytes in each line")
    return secrets
