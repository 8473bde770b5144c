"""The server as one executable file: ``python -m tools.single_file dist`` makes it from the wheel in dist/.

The file contains the locked libraries, some of them compiled: it needs the version of Python that made it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

# The file runs this first, with any version of Python. Without this, another version would fail with a
# traceback of the first compiled library.
PREAMBLE = """\
import sys
if sys.version_info[:2] != ({major}, {minor}):
    sys.exit("{name} needs Python {major}.{minor}, and this is %d.%d: "
             "start it with python{major}.{minor} {name}" % sys.version_info[:2])
"""


def make_single_file(directory: Path, requirements: Path) -> Path:
    """Make the file from the only wheel in this directory, and return its path, in the same directory."""
    (wheel,) = directory.glob("cyclone_sse-*.whl")
    version = wheel.name.split("-")[1]
    major, minor = sys.version_info[:2]
    path = directory / f"cyclone-sse-{version}-py{major}.{minor}.pyz"
    with tempfile.TemporaryDirectory() as temporary:
        preamble = Path(temporary) / "preamble.py"
        preamble.write_text(PREAMBLE.format(name=path.name, major=major, minor=minor))
        shiv = ["--console-script=cyclone-sse", "--python=/usr/bin/env python3", f"--preamble={preamble}"]
        pip = ["--quiet", "--disable-pip-version-check", "--use-pep517", "--no-deps"]
        subprocess.run(
            [sys.executable, "-m", "shiv", *shiv, f"--output-file={path}", *pip, "-r", requirements, wheel],
            check=True,
        )
    return path


if __name__ == "__main__":
    make_single_file(Path(sys.argv[1]), Path("requirements.txt"))
