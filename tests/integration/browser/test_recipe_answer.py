"""The recipe of a language model: an answer is shown whole, or said not to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclone_sse_client import Publisher

from tests.harness.clients import stats
from tests.harness.process import free_port, until
from tests.harness.recipes import Recipes
from tests.integration.browser.recipe_world import Visit, World, wait_text


@pytest.mark.slow
def test_the_answer_of_a_language_model(world: World, visit: Visit) -> None:
    ann = visit("ann", "/answer/")
    ann.get_by_label("Question").fill("Why?")
    ann.get_by_role("button", name="Ask").click()
    ann.wait_for_function("document.querySelector('#answer')?.textContent.length > 50")
    bob = visit("bob", ann.url.removeprefix(world.application.url))
    ann.reload()  # in the middle of the answer
    bob.wait_for_function("document.querySelector('#answer').textContent.length > 60")
    world.network.cut()
    world.network.heal()
    expected = "You asked: Why?\n\n" + " ".join(f"This is word {n} of the answer." for n in range(1, 21))
    for page in (ann, bob):
        page.wait_for_function("document.querySelector('#answer').ariaBusy === 'false'")
        assert page.locator("#answer").text_content() == expected
    assert not ann.faults + bob.faults


# The server is away for some tokens and the first report of the end, or the model fails.
ANSWER = """
import json

import django

django.setup()
from cyclone_sse_client import CycloneSSEError
from cyclone_sse_client.django import backends, conf
from answer import views

told, calls, views.time.sleep = [], [], lambda seconds: None
model = lambda question: iter("abcdefgh")


class Away(backends.NullBackend):
    def call(self, call):
        calls.append(call)
        if len(calls) in (3, 4, 5, 9):
            raise CycloneSSEError("away")
        told.append(json.loads(call.body)["message"])
        return super().call(call)


def failing(question):
    yield "a"
    raise ValueError("the model")


conf.backend, views.tokens = Away, model
views.run("1", "?")
views.tokens = failing
try:
    views.run("2", "?")
except ValueError:
    print(json.dumps(told))
"""


def test_an_answer_is_published_to_its_end_in_any_case(tmp_path: Path) -> None:
    told = json.loads(Recipes(tmp_path, "http://127.0.0.1:1", "", free_port()).run(ANSWER))
    pieces = ((0, "a"), (1, "b"), (2, "cdef"), (6, "g"), (7, "h"))
    assert told == [
        *({"at": at, "tokens": list(tokens)} for at, tokens in pieces),
        {"text": "abcdefgh", "is_complete": True},
        {"at": 0, "tokens": ["a"]},
        {"text": "a", "is_complete": False},
    ]


def test_an_answer_is_shown_whole_or_said_not_to_be(world: World, visit: Visit) -> None:
    name = "00000000-0000-0000-0000-00000000000"
    with Publisher(world.server.url, "KEY") as publisher:

        def tell(number: int, event: str, **message: Any) -> None:
            publisher.publish(f"answer-{name}{number}", message, event=event)

        for number in (1, 2):
            tell(number, "token", at=0, tokens=["On", "ce"])
            tell(number, "token", at=1, tokens=["ce", " upon"])  # after an answer to the publisher was lost
            tell(number, "token", at=4, tokens=[" time"])
        ann, bob = visit("ann", f"/answer/{name}1"), visit("bob", f"/answer/{name}2")
        for page in (ann, bob):
            wait_text(page, "#answer", "Once upon")
        tell(1, "end", text="Once upon a time", is_complete=True)
        tell(2, "end", text="Once upon a", is_complete=False)
    wait_text(ann, "#answer", "Once upon a time")
    wait_text(bob, "#answer", "Once upon a")
    wait_text(bob, "#hint", "The model failed: this answer is not complete.")
    assert ann.locator("#hint").text_content() == ""
    eve = visit("eve", "/")
    eve.clock.install()
    eve.goto(f"{world.application.url}/answer/{name}3")
    until(lambda: eve.evaluate("1") and stats(world.server.url), "the stream")
    eve.clock.run_for(31_000)
    wait_text(eve, "#hint", "Nothing has come for 30 seconds: this answer is not complete.")
