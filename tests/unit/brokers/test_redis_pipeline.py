"""Many commands in one piece: the same bytes as one by one, made in slices."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from cyclone_sse.brokers.redis_pipeline import (
    BYTES_AT_ONCE,
    WORDS_AT_ONCE,
    Command,
    PipelineAnswers,
    encode_command,
    encode_in_slices,
)


def encode(commands: list[Command]) -> tuple[bytes, int, int]:
    """The bytes, the number of commands, and the number of slices."""
    work = encode_in_slices(iter(commands))
    slices = 1
    while True:
        try:
            next(work)
        except StopIteration as end:
            pieces, count = end.value
            return b"".join(pieces), count, slices
        slices += 1


def test_a_command_is_an_array_of_bulk_strings() -> None:
    assert encode_command(("SET", b"a", "é", 10)) == (
        b"*4\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\xc3\xa9\r\n$2\r\n10\r\n"
    )


def test_few_commands_are_one_slice() -> None:
    commands: list[Command] = [("MULTI",), ("SET", b"a", 1), ("EXEC",)]
    assert encode(commands) == (b"".join(map(encode_command, commands)), 3, 1)


def test_many_commands_and_a_long_one_are_made_in_slices() -> None:
    many: list[Command] = [(b"PUBLISH", b"c%d" % n, b"x") for n in range(2 * WORDS_AT_ONCE)]
    data, count, slices = encode(many)
    assert (data, count) == (b"".join(map(encode_command, many)), len(many))
    assert slices > 5
    long = [b"XADD", *(b"%d" % n for n in range(3 * WORDS_AT_ONCE))]
    data, count, slices = encode([long])
    assert (data, count) == (encode_command(long), 1)
    assert slices > 3


def test_few_words_that_are_large_are_made_in_slices() -> None:
    large: list[Command] = [(b"PUBLISH", b"c", bytes(BYTES_AT_ONCE // 2)) for _ in range(10)]
    data, count, slices = encode(large)
    assert (data, count) == (b"".join(map(encode_command, large)), 10)
    assert slices == 6


def test_the_answers_are_there_with_the_last() -> None:
    answers = PipelineAnswers(2, Deferred())
    assert answers.add(b"OK") is None
    assert answers.add(1) == [b"OK", 1]
