"""Whether the history file and its log ("-wal") are where they were, and as long as they were.

Any program can remove, replace or truncate a file that is open. SQLite does not notice: from a truncated log
it would later copy zeros over the whole file. Costs a call of the kernel for each question. Knows no SQLite.
"""

from __future__ import annotations

import os
from contextlib import suppress


class JournalPlace:
    """The place of a file that exists. path: of the file; relative to the directory of this moment.

    log: the path of its log.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = self._find()
        # As SQLite does: without this, the log beside a symbolic link would always count as removed.
        self.log = f"{os.path.realpath(path)}-wal"
        self._sizes = {self.log: 0, path: 0}

    def is_same(self) -> bool:
        """Whether the file is the one that was there; not if it cannot be seen."""
        try:
            return self._find() == self._inode
        except OSError:
            return False

    def has_log(self) -> bool:
        """Whether there is a log."""
        return os.path.exists(self.log)

    def measure(self) -> str | None:
        """Note the sizes. Returns the name of the file or its log, if it is shorter than it was."""
        for name, before in self._sizes.items():
            with suppress(FileNotFoundError):
                size = os.stat(name).st_size
                if size < before:
                    return name
                self._sizes[name] = size
        return None

    def expect_new_log(self) -> None:
        """Expect a log of any size, since it was removed."""
        self._sizes[self.log] = 0

    def empty_log(self) -> None:
        """Remove all content of the log."""
        os.truncate(self.log, 0)

    def _find(self) -> tuple[int, int]:
        facts = os.stat(self._path)
        return facts.st_dev, facts.st_ino
