"""JSON as RFC 8259 defines it: in UTF-8, without NaN, and not nested too deeply.

What Python's own module reads and writes beyond that would be an error for browsers, or an exception where it
is not expected. Plain Python.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

MAX_NESTING = 500  # arrays and objects in one another; the interpreter's limit is near 1000, less the stack
TOO_DEEP = f"JSON is nested too deeply: more than {MAX_NESTING} levels"

_CONTAINERS = (dict, list)  # of the decoder


def not_json(error: ValueError) -> str:
    """What is wrong with a JSON text, and where, if Python's decoder says so."""
    if isinstance(error, json.JSONDecodeError | _NoConstant):
        return f"this is not JSON: {error}"
    return f"a number in the JSON has more than {sys.get_int_max_str_digits()} digits"


def read_json(body: bytes) -> Any:
    """The value of a JSON text (RFC 8259: UTF-8, no NaN). Raises ValueError that says what is wrong."""
    try:
        text = body.decode("utf-8-sig")
        value = JSON_DECODER.decode(text)
    except UnicodeDecodeError:
        raise ValueError("JSON is not UTF-8") from None
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(not_json(error)) from None
    if may_be_deep(text, 0, len(text)) and is_deep(value):
        raise ValueError(TOO_DEEP)
    return value


def may_be_deep(text: str, start: int, end: int, objects: int = 0) -> bool:
    """Whether this part of a JSON text has enough brackets for a value that is nested too deeply. Cheap.

    objects: the number of those side by side in it, each of which has a bracket of its own.
    """
    return text.count("[", start, end) + text.count("{", start, end) > MAX_NESTING + objects


def is_deep(value: object, most: int = MAX_NESTING) -> bool:
    """Whether a JSON value is nested too deeply: more than this many arrays and objects in one another.

    Without this, the limit would be the interpreter's, which depends on the calls that lead to the decoder.
    """
    level: list[Any] = [value] if type(value) in _CONTAINERS else []
    for _ in range(most):
        children: list[Any] = []
        for each in level:
            children += each.values() if type(each) is dict else each
        level = [child for child in children if type(child) in _CONTAINERS]
        if not level:
            return False
    return bool(level)


class _NoConstant(ValueError):
    """JSON has no NaN and no infinity."""


def _no_constant(name: str) -> NoReturn:
    raise _NoConstant(name)


JSON_DECODER = json.JSONDecoder(parse_constant=_no_constant)  # making one costs more than a short text


def compact_json(value: object) -> str:
    """The value as JSON without spaces. Raises ValueError for NaN and infinity, as which 1e999 is read."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def is_utf8(text: str) -> bool:
    """Whether the text can be sent: JSON can hold half of a surrogate pair, which is not a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
