"""The C programs and their compilation: `crowd`, `load`, `limit`, and the latter two with TLS."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent
BINARIES = SOURCES.parent / "bin"
OPENSSL = ["-DWITH_TLS", "-lssl", "-lcrypto"]
PROGRAMS = ("load", "limit")
PLAIN = "crowd"


def program(name: str, tls: bool = False) -> Path:
    """The path of a compiled program."""
    return BINARIES / (f"{name}-tls" if tls else name)


def compile_programs() -> None:
    """Compile the programs that are older than their sources; raises CalledProcessError if gcc fails.

    Without OpenSSL's headers (Debian: libssl-dev) there are no programs with TLS, and `has_tls` is false.
    """
    BINARIES.mkdir(exist_ok=True)
    _compile(PLAIN, program(PLAIN), [], check=True)
    for name in PROGRAMS:
        _compile(name, program(name), [], check=True)
        _compile(name, program(name, tls=True), OPENSSL, check=False)


def has_tls() -> bool:
    """Whether the programs with TLS could be compiled."""
    return all(program(name, tls=True).exists() for name in PROGRAMS)


def _compile(name: str, target: Path, libraries: list[str], *, check: bool) -> None:
    source = SOURCES / f"{name}.c"
    newest = max(path.stat().st_mtime for path in (source, *SOURCES.glob("*.h")))
    if target.exists() and target.stat().st_mtime > newest:
        return
    # Without another name first, a second run could start a program that is incomplete.
    fresh = target.with_suffix(".new")
    command = ["gcc", "-O2", "-o", str(fresh), str(source), *libraries]
    if subprocess.run(command, check=check, capture_output=not check).returncode == 0:
        fresh.replace(target)
