"""Adds cyclone to the package that is built; everything else is in pyproject.toml.

Every release of cyclone requires Twisted and pyOpenSSL of 2019, which no supported Python can build, though
its code runs on today's. So no installer can satisfy its requirements, and it cannot be one of ours. Instead
the build takes the modules of its wheel, unchanged and with their licence, into ``cyclone_sse/vendored``.

The wheel comes from the package index, or from the file that CYCLONE_WHEEL names.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.errors import SetupError

VERSION = "1.2"  # the newest with a wheel; its modules are those of 1.3
SHA256 = "dc2a1562ddbdf7706539c902c550c68a1979608f2d14219f6717ce4e42415f0e"
LICENSE = f"cyclone-{VERSION}.dist-info/LICENSE"
VARIABLE = "CYCLONE_WHEEL"
DOWNLOAD = ["download", "--quiet", "--disable-pip-version-check"]
DOWNLOAD += ["--no-deps", "--only-binary=:all:", "--require-hashes"]


class BuildWithCyclone(build_py):
    """Builds the package, then adds cyclone: to the build, or to the checkout if it is installed by -e."""

    def run(self) -> None:
        """Build. Raises SetupError if there is no wheel of cyclone, or the wrong one."""
        super().run()
        root = Path(".") if self.editable_mode else Path(self.build_lib)
        target = root / "cyclone_sse" / "vendored"
        with tempfile.TemporaryDirectory() as directory:
            given = os.environ.get(VARIABLE)
            wheel = checked(Path(given)) if given else downloaded(Path(directory))
            shutil.rmtree(target, ignore_errors=True)
            unpack(wheel, target)


def downloaded(directory: Path) -> Path:
    """Fetch the wheel from the index that pip is configured for. Raises SetupError."""
    requirements = directory / "requirements.txt"
    requirements.write_text(f"cyclone=={VERSION} --hash=sha256:{SHA256}\n")
    words = ["-m", "pip", *DOWNLOAD, "--dest", str(directory), "--requirement", str(requirements)]
    # Without this a user who has set PIP_REQUIRE_VIRTUALENV could not build.
    environment = {**os.environ, "PIP_REQUIRE_VIRTUALENV": "0"}
    done = subprocess.run(
        [sys.executable, *words], check=False, env=environment, capture_output=True, text=True
    )
    found = list(directory.glob("*.whl"))
    if done.returncode or not found:
        raise SetupError(
            f"cyclone {VERSION} cannot be downloaded: set {VARIABLE} to the path of its wheel\n{done.stderr}"
        )
    return checked(found[0])


def checked(wheel: Path) -> Path:
    """Return the path if this is the one wheel whose content is known. Raises SetupError."""
    try:
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    except OSError as error:
        raise SetupError(f"{VARIABLE}={wheel}: {error.strerror}") from None
    if found != SHA256:
        raise SetupError(
            f"{wheel} is not the wheel of cyclone {VERSION}: its sha256 is {found}, not {SHA256}"
        )
    return wheel


def unpack(wheel: Path, target: Path) -> None:
    """Write the licence and the modules that applications import.

    Left out are cyclone's tests, its project templates, and its twistd plugin, which does not run on
    Python 3.12: twistd would log a traceback at each start.
    """
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = Path(name)
            if name == LICENSE:
                place = target / "LICENSE.cyclone"
            elif path.parent == Path("cyclone") and path.suffix == ".py" and path.name != "app.py":
                place = target / path
            else:
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(archive.read(name))


setup(cmdclass={"build_py": BuildWithCyclone})
