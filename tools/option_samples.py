"""cyclone-sse.conf and extras/cyclone-sse.env, made from the table of options by `make docs`."""

from __future__ import annotations

from pathlib import Path

from cyclone_sse.options import OPTIONS

ROOT = Path(__file__).parents[1]
CONF = ROOT / "cyclone-sse.conf"
ENVIRONMENT = ROOT / "extras" / "cyclone-sse.env"

_HEAD = """\
# All options of cyclone-sse with their defaults, for systemd (EnvironmentFile) or a container.
# Copy this file to /etc/cyclone-sse.env, readable only by root, and remove the # before what you change.
"""


def conf() -> str:
    """The command line as a file: one option a line."""
    return "".join(f"--{row.name}={row.default or ''}\n" for row in OPTIONS)


def environment() -> str:
    """The options as variables, each with its help text."""
    return _HEAD + "".join(f"\n# {row.help}\n#{row.variable}={row.default or ''}\n" for row in OPTIONS)


if __name__ == "__main__":
    CONF.write_text(conf())
    ENVIRONMENT.write_text(environment())
