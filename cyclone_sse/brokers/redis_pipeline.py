"""Many commands of Redis in one piece, and their answers in one list.

txredisapi looks at each word of a command several times and makes a Deferred for each answer: with that, one
publication for very many channels would stop the server for a second. Knows no connection.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred

WORDS_AT_ONCE = 5000  # words that are encoded in one slice: about 2 ms
BYTES_AT_ONCE = 2**20  # and bytes

Word: TypeAlias = str | bytes | int
Command: TypeAlias = Sequence[Word]


class PipelineAnswers:
    """Collects the answers to commands that were sent together.

    count: their number. waiting: the one entry for all of them in the queue of expected answers.
    """

    def __init__(self, count: int, waiting: Deferred[Any]) -> None:
        self.waiting = waiting
        self._count = count
        self._answers: list[Any] = []

    def add(self, answer: Any) -> list[Any] | None:
        """Add the next answer. Returns all of them if it is the last."""
        self._answers.append(answer)
        return self._answers if len(self._answers) == self._count else None


def encode_command(words: Command) -> bytes:
    """One command as bytes (redis.io, "Redis serialization protocol")."""
    return b"".join((b"*%d\r\n" % len(words), *_bulk_strings(words)))


def encode_in_slices(commands: Iterable[Command]) -> Generator[None, None, tuple[list[bytes], int]]:
    """The commands as bytes, in pieces, and their number. A slice has a limited number of words and bytes."""
    pieces: list[bytes] = []
    parts: list[bytes] = []
    count = encoded = size = 0
    for command in commands:
        count += 1
        parts.append(b"*%d\r\n" % len(command))
        for start in range(0, len(command), WORDS_AT_ONCE):
            strings = _bulk_strings(command[start : start + WORDS_AT_ONCE])
            parts += strings
            encoded += len(strings)
            size += sum(map(len, strings))
            if encoded >= WORDS_AT_ONCE or size >= BYTES_AT_ONCE:
                encoded = size = 0
                pieces.append(b"".join(parts))
                parts = []
                yield
    pieces.append(b"".join(parts))
    return pieces, count


def _bulk_strings(words: Command) -> list[bytes]:
    return [b"$%d\r\n%b\r\n" % (len(word), word) for word in map(_bytes, words)]


def _bytes(word: Word) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
