"""The ``cyclone-sse`` command, and ``python -m cyclone_sse``.

Without a command the server runs in the foreground and writes no pid file. twistd's own form,
``cyclone-sse [twistd's options] cyclone-sse [options]``, does what twistd would do; workers are started this
way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from twisted.application import app
from twisted.application.service import ServiceMaker
from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]

from cyclone_sse.daemon.command_line import Options
from cyclone_sse.daemon.commands import print_token, publish_message

PLUGIN = "cyclone-sse"
FOREGROUND = ["-n", "--pidfile=", PLUGIN]
COMMANDS = {"publish": publish_message, "token": print_token}
HELP = """
Commands:
  cyclone-sse [options]                    serve until SIGTERM or Ctrl+C
  cyclone-sse check [options]              check options, files, keys, ports and brokers
  cyclone-sse publish CHANNEL MESSAGE      publish to a running server
  cyclone-sse token --sub=42 --subscribe='user-42'
                                           print a token, to try private channels

cyclone-sse publish --help and cyclone-sse token --help list the options of these commands.
"""


class _Twistd(ServerOptions):
    """twistd's command line with this one plugin.

    Without this twistd would look for the plugins of all packages, and find none of ours in a checkout
    that was installed by ``pip install -e``.
    """

    @property
    def subCommands(self) -> Iterator[tuple[str, None, Any, str]]:
        maker = ServiceMaker(PLUGIN, "cyclone_sse.daemon.plugin", "Push server for browsers", PLUGIN)
        self.loadedPlugins = {PLUGIN: maker}
        yield PLUGIN, None, Options, maker.description


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command on the command line. Exits with 1 and one line if that fails."""
    try:
        try:
            _run(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as a shell reports it; without this, with a traceback
    except BrokenPipeError:
        # The reader has enough, as `head` has. Without this, Python would print a traceback, and another
        # one when it writes the rest at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _run(words: list[str]) -> None:
    command = words[0] if words else ""
    if command in COMMANDS:
        COMMANDS[command](words[1:])
    elif PLUGIN in words:
        _run_twistd(words)
    elif {"-h", "--help"} & set(words):
        print(f"Usage: {PLUGIN} {Options()}{HELP}")
    else:
        if command == "check":
            words[0] = "--check=1"
        _run_twistd([*FOREGROUND, *words])


def _run_twistd(words: Sequence[str]) -> None:
    sys.argv[1:] = words
    sys.argv[0] = os.path.abspath(sys.argv[0])
    app.run(runApp, _Twistd)


if __name__ == "__main__":
    main()
