"""Many globs as one automaton: what each would find, and every byte of a name read once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cyclone_sse.delivery.automaton import Automaton
from cyclone_sse.patterns import compile_glob
from tests.unit.test_patterns import GLOBS, Counted


def make(*globs: bytes) -> Automaton[str]:
    automaton = Automaton[str]()
    for glob in globs:
        automaton.add(glob.decode(), compile_glob(glob).places)
    return automaton


@given(
    st.lists(GLOBS, unique=True, max_size=12),
    st.lists(GLOBS, unique=True, max_size=12),
    st.text("ab", max_size=5),
)
def test_it_finds_what_each_glob_would(first: list[bytes], then: list[bytes], text: str) -> None:
    name = text.encode()
    automaton = make(*first)
    for glob in first[::2]:
        automaton.discard(glob.decode())
    kept = dict.fromkeys(first[1::2])
    for glob in then:
        if glob not in kept:
            automaton.add(glob.decode(), compile_glob(glob).places)
    kept |= dict.fromkeys(then)
    wanted = [glob.decode() for glob in kept if compile_glob(glob).matches(name)]
    assert sorted(automaton.matching(name)) == sorted(wanted)
    assert len(automaton) == len(kept)


def test_a_name_is_read_once_for_a_thousand_malicious_globs() -> None:
    automaton = make(*(b"*?a*%d*?[^b]*" % number for number in range(1000)))
    name = Counted(b"ba17" * 60)
    found = automaton.matching(name)
    assert name.reads == len(name)
    assert "*?a*17*?[^b]*" in found


def test_the_rest_of_a_name_is_not_read_when_no_glob_can_match() -> None:
    automaton = make(*(b"other%d.*x" % number for number in range(1000)))
    name = Counted(b"news.today")
    assert automaton.matching(name) == []
    assert name.reads <= 2


def test_globs_that_come_and_go_leave_nothing() -> None:
    automaton = make(b"*a*b", b"*c")
    bits = automaton.bits
    for number in range(100):
        automaton.add(f"*{number}", compile_glob(b"*%d" % number).places)
        automaton.discard(f"*{number}")
    assert automaton.bits == bits + 16
    automaton.discard("*a*b")
    automaton.discard("*c")
    automaton.discard("never")
    assert automaton.matching(b"ab") == []
    assert len(automaton) == 0
