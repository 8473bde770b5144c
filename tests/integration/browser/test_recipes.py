"""Each recipe of docs/recipes in two Chromiums, behind a network that can be cut."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness.clients import request, stats
from tests.harness.process import free_port, until
from tests.harness.recipes import FOLDER, PhpRecipe, Recipes
from tests.integration.browser.conftest import Open
from tests.integration.browser.recipe_world import Visit, World, wait_text

MOST_LINES = 60  # of a recipe's own on the server


def say(page: Any, text: str) -> None:
    """Send a line of the chat."""
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def test_chat(world: World, visit: Visit) -> None:
    ann, bob = visit("ann", "/chat/tea"), visit("bob", "/chat/tea")
    for page in (ann, bob):
        wait_text(page, "#members", "annbob")
    bob.get_by_label("Message").type("H")
    wait_text(ann, "#typing", "bob is typing …")
    assert bob.locator("#typing").text_content() == ""  # not to the sender
    say(bob, "Hello <b>Ann</b>")
    for page in (ann, bob):
        wait_text(page, "#lines", "bobHello <b>Ann</b>")
    wait_text(ann, "#typing", "")
    eve = visit("eve", "/chat/tea")
    wait_text(eve, "#lines", "bobHello <b>Ann</b>")  # what was said before
    wait_text(ann, "#members", "annbobeve")
    eve.close()
    wait_text(ann, "#members", "annbob")
    assert not ann.faults + bob.faults


def test_lines_of_a_chat_stand_in_their_order(world: World, visit: Visit) -> None:
    ann, bob = visit("ann", "/"), visit("bob", "/chat/tea")
    say(bob, "first")
    wait_text(bob, "#lines", "bobfirst")
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    ann.route("**/lines", hold)
    ann.goto(bob.url)
    until(lambda: ann.evaluate("1") and held, "the request for what was said")
    say(bob, "second")
    wait_text(ann, "#lines", "bobsecond")  # the stream is ahead
    held[0].continue_()
    wait_text(ann, "#lines", "bobfirstbobsecond")
    assert not ann.faults + bob.faults


@pytest.mark.parametrize(
    ("path", "read", "selector"), [("/chat/tea", "**/lines", "#lines"), ("/table/", "**/rows", "#row-1")]
)
def test_what_could_not_be_read_is_read_again(visit: Visit, path: str, read: str, selector: str) -> None:
    ann, bob = visit("ann", "/"), visit("bob", "/chat/tea")
    say(bob, "first")
    wait_text(bob, "#lines", "bobfirst")
    ann.route(read, lambda route: route.fulfill(status=503, body="the application is away"), times=1)
    ann.goto(ann.url.rstrip("/") + path)
    wait_text(ann, selector, {"#lines": "bobfirst", "#row-1": "Tea1.00Change"}[selector])


def test_what_could_not_be_published_is_shown_after_the_outage(world: World, visit: Visit) -> None:
    ann, bob = visit("ann", "/chat/tea"), visit("bob", "/chat/tea")
    eve, zoe = visit("eve", "/table/"), visit("zoe", "/table/")
    wait_text(ann, "#members", "annbob")
    for page in (eve, zoe):
        wait_text(page, "#row-1", "Tea1.00Change")
    zoe.on("dialog", lambda dialog: dialog.accept("2.50"))
    max_, kim = visit("max", "/notifications/"), visit("kim", "/notifications/")
    wait_text(max_, "#unread", "0")
    kim.get_by_label("To").fill("max")
    kim.get_by_label("Text").fill("Hello")
    world.server.kill()
    with (
        bob.expect_response("**/say"),
        zoe.expect_response("**/table/1"),
        kim.expect_response("**/send"),
    ):  # the application gives up publishing
        say(bob, "Hello")
        kim.get_by_role("button", name="Send").click()
        zoe.locator("#row-1 button").click()
    world.server.start()
    wait_text(ann, "#lines", "bobHello")
    wait_text(eve, "#row-1", "Tea2.50Change")
    wait_text(max_, "#notes", "kim: Hello")


@pytest.mark.parametrize(("path", "read"), [("/chat/tea", "/lines"), ("/table/", "/rows")])
def test_a_page_reads_once_after_an_outage_with_a_gap(
    world: World, visit: Visit, tmp_path: Path, path: str, read: str
) -> None:
    ann, bob = visit("ann", "/"), visit("bob", "/chat/tea")
    ann.add_init_script("Math.random = () => 0.5")  # two waits would end together
    readings: list[str] = []
    ann.on("request", lambda sent: readings.append(sent.url) if sent.url.endswith(read) else None)
    ann.goto(world.application.url + path)
    until(lambda: ann.evaluate("1") and readings, "the first reading")
    say(bob, "Hello")
    wait_text(bob, "#lines", "bobHello")
    world.server.kill()
    for file in tmp_path.glob("events.sqlite*"):
        file.unlink()  # what was missed is lost: the page receives a gap
    world.server.start()
    until(lambda: ann.evaluate("1") and len(readings) > 1, "the second reading")
    ann.evaluate("new Promise(requestAnimationFrame)")
    assert len(readings) == 2


def test_notifications(world: World, visit: Visit) -> None:
    ann, bob = visit("ann", "/notifications/"), visit("bob", "/notifications/")
    for text in ("one", "two"):
        ann.get_by_label("To").fill("bob")
        ann.get_by_label("Text").fill(text)
        ann.get_by_role("button", name="Send").click()
        wait_text(bob, "#notes li", f"ann: {text}")
    wait_text(bob, "#unread", "2")
    world.server.restart()
    bob.reload()
    wait_text(bob, "#unread", "2")
    wait_text(bob, "#notes", "ann: twoann: one")
    bob.get_by_role("button", name="Mark all as read").click()
    wait_text(bob, "#unread", "0")
    assert ann.locator("#unread").text_content() == "0"
    assert not ann.faults + bob.faults


# While one request publishes, another one adds a note and publishes before it.
TWO_NOTES = """
import json

import django

django.setup()
from cyclone_sse_client.django import backends, conf
from django.contrib.auth.models import User
from notifications.models import Note
from notifications.views import tell

ann, told = User.objects.create(username="ann"), []


class Slow(backends.NullBackend):
    def call(self, call):
        if Note.objects.count() == 1:
            note("second")
        told.append(json.loads(call.body)["message"])
        return super().call(call)


def note(text):
    Note.objects.create(user=ann, text=text)
    tell(ann)


conf.backend = Slow
note("first")
print(json.dumps(told[-1]))
"""


def test_of_two_notes_at_once_none_is_missing_in_the_state(tmp_path: Path) -> None:
    recipes = Recipes(tmp_path, "http://127.0.0.1:1", "", free_port())
    assert json.loads(recipes.run(TWO_NOTES)) == {"unread": 2, "newest": ["second", "first"]}


# The server is away when the job ends, and comes back.
LAST_REPORT = """
import json

import django

django.setup()
from cyclone_sse_client import CycloneSSEError
from cyclone_sse_client.django import backends, conf
from job import views

told, views.time.sleep = [], lambda seconds: None


class Away(backends.NullBackend):
    def call(self, call):
        told.append(json.loads(call.body)["message"]["done"])
        if told.count(views.STEPS) == 1:
            raise CycloneSSEError("away")
        return super().call(call)


conf.backend = Away
views.work("1")
print(json.dumps(told))
"""


def test_the_end_of_a_long_job_is_reported_in_any_case(tmp_path: Path) -> None:
    told = json.loads(Recipes(tmp_path, "http://127.0.0.1:1", "", free_port()).run(LAST_REPORT))
    assert told == [*range(41), 40]


def test_a_long_job(world: World, visit: Visit) -> None:
    ann = visit("ann", "/job/")
    ann.get_by_role("button", name="Start one").click()
    ann.wait_for_function("document.querySelector('#bar')?.value > 3")
    ann.reload()
    ann.wait_for_function("document.querySelector('#bar').value > 3")
    bob = visit("bob", ann.url.removeprefix(world.application.url))
    for page in (ann, bob):
        wait_text(page, "#text", "Done.")
    bob.reload()
    wait_text(bob, "#text", "Done.")
    assert not ann.faults + bob.faults


def test_a_long_job_in_php(tmp_path: Path, browse: Open) -> None:
    with ExitStack() as stack:
        world = World(tmp_path, stack, PhpRecipe, "/auth.php")
        ann, bob = browse(world.application.url), browse(world.application.url)
        ann.get_by_role("button", name="Start one").click()
        ann.wait_for_function("document.querySelector('#bar')?.value > 3")
        ann.reload()
        ann.wait_for_function("document.querySelector('#bar').value > 3")
        bob.goto(ann.url)
        assert not bob.locator("#bar").count()  # of another session
        job = ann.url.partition("job=")[2]
        assert request("GET", f"{world.server.url}/?channels=job-{job}").status == 401
        wait_text(ann, "#text", "Done.")
        ann.reload()
        wait_text(ann, "#text", "Done.")
        assert not ann.faults


def test_a_live_table(world: World, visit: Visit) -> None:
    ann, bob = visit("ann", "/table/"), visit("bob", "/table/")
    ann.on("dialog", lambda dialog: dialog.accept("2.50"))
    for page in (ann, bob):
        wait_text(page, "#row-2", "Coffee1.00Change")
    ann.locator("#row-2 button").click()
    for page in (ann, bob):
        wait_text(page, "#row-2", "Coffee2.50Change")
    assert bob.locator("#rows tr").count() == 3
    world.network.cut()
    ann.locator("#row-3 button").click()
    world.network.heal()
    for page in (ann, bob):
        wait_text(page, "#row-3", "Milk2.50Change")
    assert not ann.faults + bob.faults
    said: list[str] = []

    def answer(dialog: Any) -> None:
        said.append(dialog.message)
        dialog.accept("many")

    bob.on("dialog", answer)
    with bob.expect_response("**/table/1") as refused:
        bob.locator("#row-1 button").click()
    assert refused.value.status == 400
    until(lambda: bob.evaluate("1") and len(said) == 2, "the reason")
    assert "must be a decimal number" in said[1]


def test_no_change_is_lost_while_the_rows_are_read_twice(world: World, visit: Visit) -> None:
    ann, bob = visit("ann", "/"), visit("bob", "/table/")
    wait_text(bob, "#row-2", "Coffee1.00Change")
    before = bob.request.get(f"{world.application.url}/table/rows").text()
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    ann.route("**/rows", hold)
    ann.add_init_script("const parse = JSON.parse; JSON.parse = (text) => parse(window.parsed = text);")
    ann.goto(bob.url)
    until(lambda: ann.evaluate("1") and len(held) == 1, "the first reading")
    world.network.cut()
    world.network.heal()
    until(lambda: ann.evaluate("1") and len(held) == 2, "the second one, of the next connection")
    bob.on("dialog", lambda dialog: dialog.accept("2.50"))
    bob.locator("#row-2 button").click()
    ann.wait_for_function("window.parsed?.includes('2.50')")
    for route in held:
        route.fulfill(body=before, content_type="application/json")
    wait_text(ann, "#row-2", "Coffee2.50Change")
    assert not ann.faults + bob.faults


def test_a_user_that_logs_out_hears_nothing_more(world: World, visit: Visit) -> None:
    ann = visit("ann", "/table/")
    wait_text(ann, "#row-1", "Tea1.00Change")
    until(lambda: "table" in stats(world.server.url), "the stream")
    other = ann.context.new_page()
    other.goto(world.application.url)
    other.get_by_role("button", name="Log out").click()
    other.get_by_label("Name").wait_for()
    until(lambda: "table" not in stats(world.server.url), "its end")
    ann.get_by_label("Name").wait_for()  # the page that has lost its stream says so


@pytest.mark.parametrize("path", ["/chat/tea", "/table/"])
def test_with_an_expired_session_a_page_shows_the_login_form(world: World, visit: Visit, path: str) -> None:
    ann = visit("ann", path)
    until(lambda: ann.evaluate("1") and stats(world.server.url), "the stream")
    if path == "/table/":
        wait_text(ann, "#row-1", "Tea1.00Change")
    else:
        # Without this, the page would show the login form in place of the lines.
        ann.wait_for_function("performance.getEntriesByName(`${location.href}/lines`).length")
    ann.context.clear_cookies(name="sessionid")
    if path == "/chat/tea":
        ann.get_by_label("Message").fill("Hello")  # others are told that she is typing
    else:
        ann.on("dialog", lambda dialog: dialog.accept("2.50"))
        ann.locator("#row-1 button").click()
    ann.get_by_label("Name").wait_for()


def test_what_could_not_be_sent_is_not_lost(world: World, visit: Visit) -> None:
    ann = visit("ann", "/chat/tea")
    ann.route("**/say", lambda route: route.abort())
    with ann.expect_event("requestfailed"):
        say(ann, "Hello")
    ann.wait_for_function("document.querySelector('#text').value === 'Hello'")
    said: list[str] = []

    def answer(dialog: Any) -> None:
        said.append(dialog.message)
        dialog.accept()

    ann.on("dialog", answer)
    ann.goto(f"{world.application.url}/notifications/")
    ann.get_by_label("To").fill("zoe")
    ann.get_by_label("Text").fill("Hello")
    ann.get_by_role("button", name="Send").click()
    until(lambda: ann.evaluate("1") and said, "the reason")
    assert said == ["Not sent: is there a user zoe?"]
    assert ann.get_by_label("Text").input_value() == "Hello"


def test_patterns_and_the_channels_of_others_are_refused(world: World, visit: Visit) -> None:
    ann = visit("ann", "/")
    for name in ("*", "us*", "room-*", "job-[a-f]*", "user-0", "tables", "other"):
        asked = ann.request.get(f"{world.application.url}/push/auth", params={"channels": name})
        assert asked.status == 403, name
    asked = ann.request.get(f"{world.application.url}/push/auth?channels=room-*&channels=room-tea")
    assert asked.json()["channels"] == ["room-tea"]


def test_each_name_of_the_application_may_read_the_streams() -> None:
    """With the session's cookie, which belongs to the name in the address: the streams have the same name."""
    settings = (FOLDER / "project" / "settings.py").read_text()
    (hosts,) = re.findall(r"^ALLOWED_HOSTS = (.*)$", settings, re.MULTILINE)
    (origins,) = re.findall(r"^cors-origin=(.*)$", (FOLDER / "server.conf").read_text(), re.MULTILINE)
    assert origins.split(",") == [f"http://{host}:8000" for host in json.loads(hosts)]
    for page in ("project/templates/base.html", "php/index.php"):
        assert "`http://${location.hostname}:8888/`" in (FOLDER / page).read_text()


@pytest.mark.parametrize("name", ["chat", "notifications", "job", "table", "answer"])
def test_it_is_short(name: str) -> None:
    lines = [line for path in (FOLDER / name).glob("*.py") for line in path.read_text().splitlines()]
    assert len([line for line in lines if line.strip()]) < MOST_LINES
