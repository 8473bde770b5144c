"""The demo page, used by keyboard, in a narrow window, in dark mode, and behind a prefix."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.harness.clients import publish, request, stats
from tests.harness.process import until
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site, node_modules
from tests.integration.conftest import Serve

DARK = {"color_scheme": "dark"}
NARROW = {"viewport": {"width": 320, "height": 640}}
# texts whose contrast to the ground is below 4.5 (WCAG 2.1, 1.4.3), with it
CONTRASTS = """() => {
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = (color) => {
        const [r, g, b] = numbers(color).map((c) => c / 255)
            .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return numbers(color)[3] === 0 ? ground(element.parentElement) : color;
    };
    return [...document.querySelectorAll('h1, h2, p, label, input, textarea, button, dt, dd, th, td')]
        .map((element) => {
            const pair = [luminance(getComputedStyle(element).color), luminance(ground(element))];
            return [element.outerHTML, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)];
        })
        .filter(([, ratio]) => ratio < 4.5);
}"""
STATE = "document.querySelector('#state').textContent"


def another(page: Any, channel: str) -> None:
    """Enter one more channel to subscribe to."""
    page.locator("input[name=channels]").last.fill(channel)


def test_by_keyboard_alone(serve: Serve, browse: Open) -> None:
    server = serve("--demo=1", "--http-secret=open sesame")
    page = browse(server.url + "/demo")
    assert page.title() == "cyclone-sse demo"
    page.keyboard.press("Tab")  # the link to the events
    page.keyboard.press("Tab")
    page.keyboard.type("chat")  # in place of what stands there: tabbing in selects it
    page.keyboard.press("Tab")
    page.keyboard.type("news")
    page.keyboard.press("Enter")
    page.wait_for_function(f"{STATE} === 'Connected to chat, news'")
    assert stats(server.url) == {"chat": 1, "news": 1}
    page.wait_for_function("document.querySelector('#stats').textContent === 'chat1news1'")

    for _ in range(5):  # another channel, the token, Connect, Disconnect, the channel to publish to
        page.keyboard.press("Tab")
    page.keyboard.type("news")
    page.keyboard.press("Tab")  # another channel
    page.keyboard.press("Tab")
    page.keyboard.type("headline")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type('{"by": "key"}')
    page.keyboard.press("Control+Enter")
    page.wait_for_function("document.querySelector('#answer').className === 'answer bad'")
    for _ in range(3):  # keep, not to this page, the key
        page.keyboard.press("Tab")
    page.keyboard.type("open sesame")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#events pre')?.textContent === '{\"by\": \"key\"}'")
    page.wait_for_function("document.querySelector('#answer').className === 'answer'")
    assert page.inner_text("#count") == "1"
    assert page.inner_text("#events .type") == "headline"
    page.wait_for_function("document.querySelectorAll('#chart rect[height=\"20\"]').length === 1")
    page.wait_for_function("document.querySelector('#summary').textContent === 'New events: 1'")

    page.focus("#disconnect")
    page.keyboard.press("Enter")
    page.wait_for_function(f"{STATE} === 'Not connected'")
    until(lambda: stats(server.url) == {}, "the page has left")
    assert page.evaluate("document.activeElement.id") == "channels"
    assert page.faults == []


def test_the_server_is_away_and_back(serve: Serve, browse: Open) -> None:
    server = serve("--demo=1", "--retry=200")
    page = browse(server.url + "/demo")
    page.press("#channels", "Enter")
    page.wait_for_function(f"{STATE} === 'Connected to base'")
    publish(server.url, "base", "[1]")
    page.wait_for_function("document.querySelectorAll('#events li').length === 1")
    server.kill()
    page.wait_for_function(f"{STATE} === 'Connection lost, trying again'")
    page.click("#publish button")
    page.wait_for_function("document.querySelector('#answer').textContent === 'The server did not answer'")
    server.start()
    page.wait_for_function(f"{STATE} === 'Connected to base'")
    page.wait_for_function(
        "document.querySelector('#events .gap')?.textContent.endsWith('Events were missed in: base')"
    )
    assert page.faults == []


def test_in_a_narrow_window_and_dark(serve: Serve, browse: Open) -> None:
    server = serve("--demo=1")
    light = browse(server.url + "/demo")
    page = browse(server.url + "/demo", **DARK, **NARROW)
    page.press("#channels", "Enter")
    page.wait_for_function(f"{STATE} === 'Connected to base'")
    publish(server.url, "base", json.dumps(["a long word", "x" * 400]))
    page.wait_for_function("document.querySelectorAll('#events li').length === 1")
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert page.evaluate("document.querySelector('#events').scrollWidth") < 320
    upper, lower = (page.locator(part).bounding_box() for part in ("#subscribing", "#publishing"))
    assert upper["x"] == lower["x"]
    assert upper["y"] < lower["y"]
    assert page.locator("#publish button").bounding_box()["width"] > 60
    widths = page.evaluate("[...document.querySelectorAll('section')].map((card) => card.offsetWidth)")
    assert len(set(widths)) == 1
    brightness = (
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + Number(b), 0)"
    )
    assert page.evaluate(brightness) < 150  # of 3 * 255
    assert light.evaluate(brightness) > 600


def test_everything_on_it_has_a_name(serve: Serve, browse: Open) -> None:
    """What a screen reader would say."""
    server = serve("--demo=1")
    page = browse(server.url + "/demo")
    for role, name in [
        ("group", "Channels, one in each field"),
        ("textbox", "Channel to subscribe to"),
        ("textbox", "Channel to publish to"),
        ("checkbox", "Keep it as the state of the channels"),
        ("checkbox", "Do not send it to this page"),
        ("region", "Members and state"),
        ("textbox", "Type of the event (optional)"),
        ("textbox", "Message (Ctrl+Enter publishes)"),
        ("button", "Copy the line for a shell"),
        ("region", "Received events, newest first"),
        ("button", "Connect"),
        ("button", "Disconnect"),
        ("button", "Publish"),
        ("img", "Events in each of the last 60 seconds, at most 0"),
        ("table", "Subscribers of each channel"),
        ("list", "Received events, newest first"),
        ("heading", "cyclone-sse"),
    ]:
        assert page.get_by_role(role, name=name, exact=True).count() >= 1, (role, name)
    unnamed = """[...document.querySelectorAll('input, textarea')]
        .filter((field) => !field.labels.length && !field.ariaLabel).length"""
    assert page.evaluate(unnamed) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_text_stands_out(serve: Serve, browse: Open, scheme: str) -> None:
    server = serve("--demo=1")
    page = browse(server.url + "/demo", color_scheme=scheme)
    for state in ("open", "connecting", "lost", "closed"):
        page.evaluate("state => { document.querySelector('#state').dataset.state = state; }", state)
        too_faint = page.evaluate(CONTRASTS)
        assert too_faint == []


@pytest.mark.parametrize("how", [{}, DARK, NARROW], ids=["wide", "dark", "narrow"])
def test_a_checker_of_accessibility_finds_nothing(serve: Serve, browse: Open, how: dict[str, Any]) -> None:
    """By axe, on the page in use."""
    server = serve("--demo=1")
    page = browse(server.url + "/demo", reduced_motion="reduce", **how)
    page.press("#channels", "Enter")
    page.wait_for_function(f"{STATE} === 'Connected to base'")
    page.fill("#type", "news")
    page.click("#publish button")
    page.wait_for_function("document.querySelectorAll('#events li').length === 1")
    page.add_script_tag(path=str(node_modules() / "axe-core" / "axe.min.js"))
    found = page.evaluate("axe.run()")
    assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found["violations"]] == []
    assert len(found["passes"]) > 20


def test_it_needs_nothing_inline(serve: Serve, browse: Open) -> None:
    server = serve("--demo=1")
    answer = request("GET", server.url + "/demo")
    assert re.search(rb"<style|style=|<script>|\son\w+=", answer.body) is None
    page = browse("about:blank", bypass_csp=False)
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.goto(server.url + "/demo")
    page.press("#channels", "Enter")
    until(lambda: page.inner_text("#state") == "Connected to base", "the stream")
    assert told == []  # of what the policy forbids, or what is missing


def test_what_it_shows_can_be_used(serve: Serve, browse: Open) -> None:
    """The line for a shell and the two scripts, word for word."""
    server = serve("--demo=1")
    page = browse(server.url + "/demo", permissions=["clipboard-read", "clipboard-write"])
    page.fill("#channels", "base")
    another(page, "it's")
    page.fill("#target", "it's")
    page.fill("#type", "news")
    page.fill("#message", """["it's", "two\nlines \\ &x=1"]""")
    page.press("#channels", "Enter")
    page.wait_for_function(f"{STATE}.startsWith('Connected')")
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    native, module = page.inner_text("#native"), page.inner_text("#module")
    until(lambda: stats(server.url) == {"base": 1, "it's": 1}, "the page's stream")
    page.evaluate("(script) => { (0, eval)(script); }", native)
    until(lambda: stats(server.url) == {"base": 2, "it's": 2}, "the stream of the script")
    page.get_by_role("button", name="Copy the line for a shell").click()
    line = page.evaluate("navigator.clipboard.readText()")
    assert line == page.inner_text("#curl")
    done = subprocess.run(["sh", "-c", line], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == {"status": "ok"}
    page.wait_for_function("document.querySelectorAll('#events li').length === 1")
    assert page.inner_text("#events pre") == page.input_value("#message")
    until(lambda: page.title() and len(heard) == 1, "the script receives it")
    assert heard[0] == page.input_value("#message")

    with Site(server.port) as site:  # a page of another origin
        site.pages["/"] = f'<!DOCTYPE html><title>x</title><script type="module">{module}</script>'
        other = browse(site.url)
        other.on("console", lambda message: heard.append(message.text))
        until(lambda: stats(server.url) == {"base": 3, "it's": 3}, "the stream of the module")
        subprocess.run(["sh", "-c", line], check=True, capture_output=True)
        until(lambda: other.title() and sum("two" in t for t in heard) == 3, "both scripts hear it")


def test_on_a_phone_what_arrived_is_in_view(serve: Serve, browse: Open) -> None:
    server = serve("--demo=1")
    page = browse(server.url + "/demo", viewport={"width": 360, "height": 740})
    page.press("#channels", "Enter")
    page.wait_for_function(f"{STATE} === 'Connected to base'")
    page.click("#publish button")
    page.wait_for_function("document.querySelectorAll('#events li').length === 1")
    page.wait_for_function(
        "document.querySelector('#events li').getBoundingClientRect().bottom <= innerHeight"
    )
    answer = page.locator("#answer").bounding_box()
    assert answer["x"] == page.locator("#publish button").bounding_box()["x"]
    assert answer["height"] < 40  # one line


@pytest.mark.slow
def test_with_a_token(serve: Serve, browse: Open) -> None:
    """Private channels are refused without one; with one all works until it expires, as the page says."""
    secret = "a secret of at least 32 bytes, or none"
    server = serve("--demo=1", f"--jwt-secret={secret}")
    page = browse(server.url + "/demo")
    page.press("#channels", "Enter")
    page.wait_for_function(f"{STATE}.startsWith('The server refuses') && {STATE}.endsWith('(401)')")
    claims = {"subscribe": ["base"], "publish": ["base"], "exp": time.time() - 22}  # of 30 s of leeway
    page.fill("#token", jwt.encode(claims, secret, "HS256"))
    page.press("#token", "Enter")
    page.wait_for_function(f"{STATE} === 'Connected to base'")
    page.click("#publish button")
    page.wait_for_function("document.querySelectorAll('#events li').length === 1")
    page.wait_for_function(
        "document.querySelector('#events .gap')?.textContent.endsWith('The token has expired')"
    )
    page.wait_for_function(f"{STATE}.endsWith('(401)')")


def test_its_tabs_share_one_connection(serve: Serve, open_profile: Open) -> None:
    server = serve("--demo=1")
    context = open_profile(bypass_csp=True)
    tabs = [context.new_page() for _ in range(7)]
    for number, tab in enumerate(tabs):
        tab.goto(server.url + "/demo")
        another(tab, f"own-{number}")
        tab.press("#channels", "Enter")
    for tab in tabs:
        tab.wait_for_function(f"{STATE}.startsWith('Connected')")
    until(lambda: stats(server.url).get("base") == 1, "one connection")
    publish(server.url, "own-6", "1")
    tabs[6].wait_for_function("document.querySelectorAll('#events li').length === 1")


def test_a_comma_is_part_of_a_name(serve: Serve, browse: Open) -> None:
    server = serve("--demo=1")
    page = browse(server.url + "/demo")
    page.fill("#channels", "a,b")
    another(page, "c")
    assert page.inner_text("#address") == "/?channels=a%2Cb&channels=c"
    page.press("#channels", "Enter")
    page.wait_for_function(f"{STATE} === 'Connected to a,b, c'")
    assert stats(server.url) == {"a,b": 1, "c": 1}


@pytest.mark.slow
def test_a_room_with_members(serve: Serve, browse: Open, tmp_path: Path) -> None:
    (tmp_path / "channels.toml").write_text('["room-*"]\npresence = true\n')
    secret = "a secret of at least 32 bytes, or none"
    server = serve("--demo=1", f"--jwt-secret={secret}", f"--channels={tmp_path / 'channels.toml'}")
    pages = [browse(server.url + "/demo"), browse(server.url + "/demo")]
    for page, user in zip(pages, ("ann", "bob"), strict=True):
        claims = {"sub": user, "subscribe": ["room-*"], "exp": time.time() + 3600}
        page.fill("#channels", "room-7")
        page.fill("#token", jwt.encode(claims, secret, "HS256"))
        page.press("#token", "Enter")
    for page in pages:
        page.wait_for_function("document.querySelector('#members').textContent === 'room-72: ann, bob'")
    pages[1].click("#disconnect")
    assert pages[1].inner_text("#members") == ""
    pages[0].wait_for_function("document.querySelector('#members').textContent === 'room-71: ann'")


def test_a_room_with_a_state(serve: Serve, browse: Open) -> None:
    server = serve("--demo=1")
    page = browse(server.url + "/demo")
    page.press("#channels", "Enter")
    page.wait_for_function(f"{STATE} === 'Connected to base'")
    page.check("#keep")
    page.fill("#message", "open")
    page.click("#publish button")
    page.wait_for_function("document.querySelector('#states').textContent === 'baseopen'")
    assert "keep=1" in page.inner_text("#curl")
    other = browse(server.url + "/demo")  # it has the state when it opens
    other.press("#channels", "Enter")
    other.wait_for_function("document.querySelector('#events pre')?.textContent === 'open'")
    other.wait_for_function("document.querySelector('#states').textContent === 'baseopen'")
    page.check("#except")
    page.fill("#message", "not to this page")
    page.click("#publish button")
    other.wait_for_function("document.querySelectorAll('#events li').length === 2")
    assert page.locator("#events li").count() == 1


def test_behind_a_prefix(serve: Serve, browse: Open) -> None:
    server = serve("--demo=1")
    with Site(server.port) as site:
        page = browse(site.url + "/sse/demo")
        assert "/sse/media/demo.js" in site.requests
        page.press("#channels", "Enter")
        page.wait_for_function(f"{STATE} === 'Connected to base'")
        page.click("#publish button")
        page.wait_for_function("document.querySelectorAll('#events li').length === 1")
        page.wait_for_function("document.querySelector('#stats').textContent === 'base1'")


def test_it_is_off_unless_asked_for(serve: Serve) -> None:
    server = serve()
    assert request("GET", server.url + "/demo").status == 404
    assert request("GET", server.url + "/media/demo.js").status == 404
