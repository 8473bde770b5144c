"""What the head comments of the three plugins say, with every jQuery, in a new browser and in an old one."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.harness.clients import publish, stats
from tests.harness.process import ROOT, need, until
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site, bare_page, node_modules

NOTE = """
    function note(name) { return function () {
        seen.push([name].concat($.map(arguments, function (a) {
            return a === undefined ? null : a.target ? a.type : a instanceof Error ? 'exception' : [a];
        })));
    }; }
"""


def test_eventsource(server: SseServer, site: Site, browse: Open, jquery: str, old: bool) -> None:
    script = """
        function open(label, dataType) {
            $.eventsource({label: label, url: '/sse/', data: {channels: ['a', 'b c&d']}, dataType: dataType,
                open: note(label + ' open'), message: note(label), error: note(label + ' error')});
        }
        open('json', 'json');
        open('text', 'text');
    """
    site.pages["/"] = bare_page(NOTE + script, jquery)
    page = browse(site.url, old)
    until(lambda: stats(server.url) == {"a": 2, "b c&d": 2}, "both streams")
    publish(server.url, "a", '{"x": [1, "ä"]}')
    publish(server.url, "b c&d", "no JSON,\ntwo lines")
    publish(server.url, "a", "42")
    page.wait_for_function("seen.length === 8")
    assert [note[1:] for note in page.evaluate("seen") if note[0] == "json"] == [
        [{"x": [1, "ä"]}, "message"],
        [42, "message"],
    ]
    assert [note[1:] for note in page.evaluate("seen") if note[0] == "json error"] == [
        ["message", "exception"]
    ]
    texts = [note[1] for note in page.evaluate("seen") if note[0] == "text"]
    assert texts == ['{"x": [1, "ä"]}', "no JSON,\ntwo lines", "42"]
    assert page.evaluate(
        "[$.eventsource('streams', 'text').label, $.eventsource('streams', 'other') === undefined]"
    ) == ["text", True]
    assert page.evaluate("$.map($.eventsource('streams'), function (s, label) { return label; })") == [
        "json",
        "text",
    ]

    page.evaluate("$.eventsource('close', 'json'); $.eventsource('close', 'other')")
    until(lambda: stats(server.url) == {"a": 1, "b c&d": 1}, "one stream is closed")
    page.evaluate("open('text', 'json')")  # replaces the one of the same name
    page.wait_for_function("seen.length === 9")
    until(lambda: stats(server.url) == {"a": 1, "b c&d": 1}, "one stream in place of the other")
    publish(server.url, "a", "[43]")
    page.wait_for_function("seen.length === 10")
    assert page.evaluate("seen[9]") == ["text", [43], "message"]
    page.evaluate("$.eventsource('close')")
    until(lambda: stats(server.url) == {}, "all streams are closed")
    assert page.faults == []


@pytest.mark.parametrize("close", ["$.eventsource.close()", "$.eventsource('close', '*')"])
def test_old_pages_close_and_list_their_streams(
    server: SseServer, site: Site, browse: Open, jquery: str, close: str
) -> None:
    script = """
        $.each(['a', 'b', 'c'], function (_, name) {
            $.eventsource({label: name, url: '/sse/', data: {channels: name}});
        });
    """
    site.pages["/"] = bare_page(script, jquery)
    page = browse(site.url)
    until(lambda: stats(server.url) == {"a": 1, "b": 1, "c": 1}, "the streams")
    page.evaluate("$.eventsource.close('a')")
    until(lambda: stats(server.url) == {"b": 1, "c": 1}, "one stream is closed")
    labels = "$.map($.eventsource.streams(), function (stream) { return stream.label; })"
    assert page.evaluate(labels) == ["b", "c"]
    assert page.evaluate("$.eventsource.streams('b').label") == "b"
    page.evaluate(close)
    until(lambda: stats(server.url) == {}, "all streams are closed")
    assert page.evaluate(labels) == []
    assert page.faults == []


def test_a_handler_that_throws_does_not_end_the_stream(
    server: SseServer, site: Site, browse: Open, old: bool
) -> None:
    script = """
        $.eventsource({url: '/sse/', data: 'channels=a', message: function (data) {
            seen.push(data);
            if (data === 1) { throw new Error('from the handler'); }
        }});
    """
    site.pages["/"] = bare_page(script)
    page = browse(site.url, old)
    until(lambda: stats(server.url) == {"a": 1}, "the stream")
    for message in "123":
        publish(server.url, "a", message)
    page.wait_for_function("seen.length === 3")
    assert page.evaluate("seen") == [1, 2, 3]
    assert page.faults == ["from the handler"]


def test_start_after_an_event(server: SseServer, site: Site, browse: Open, old: bool) -> None:
    script = """
        function read(lastEventId) {
            $.eventsource({label: 'a', url: '/sse/', data: {channels: 'a'}, lastEventId: lastEventId,
                message: function (data, event) { seen.push([data, event.lastEventId]); }});
        }
        read('earliest');
    """
    for message in "123":
        publish(server.url, "a", message)
    site.pages["/"] = bare_page(script)
    page = browse(site.url, old)
    page.wait_for_function("seen.length === 3")
    assert [data for data, _ in page.evaluate("seen")] == [1, 2, 3]
    page.evaluate("read(seen[1][1])")
    page.wait_for_function("seen.length === 4")
    assert page.evaluate("seen[3][0]") == 3


def test_one_connection_and_its_prefix(
    server: SseServer, site: Site, browse: Open, jquery: str, old: bool
) -> None:
    body = """
        <p class="live" id="one" data-ch=" a , b" data-ev="x, y"></p>
        <p class="live" id="two" data-ch="b,c d" data-ev="y"></p>
        <p class="live" id="three"></p>
        <p class="sse" id="other" data-sse-channels="z" data-sse-events="x"></p>
    """
    script = """
        $.each(['x', 'y', 'open', 'error'], function (_, name) {
            $('p').on('push:' + name, function (e, data) {
                seen.push([this.id, name, data && data.type || data]);
            });
        });
        $.sse({
            url: '/sse/', selector: '.live', channelAttr: 'data-ch', eventAttr: 'data-ev',
            eventPrefix: 'push:', label: 'mine'
        });
    """
    site.pages["/"] = bare_page(script, jquery, body)
    page = browse(site.url, old)
    page.wait_for_function("seen.length === 3")
    assert page.evaluate("seen") == [[who, "open", "open"] for who in ("one", "two", "three")]
    assert stats(server.url) == {"a": 1, "b": 1, "c d": 1}

    page.evaluate("seen = []")
    publish(server.url, "c d", json.dumps(["x", {"n": 1}]))
    publish(server.url, "a", json.dumps(["y", [1, 2]]))
    publish(server.url, "a", json.dumps(["z", 1]))
    publish(server.url, "a", json.dumps({"not": "a pair"}))
    publish(server.url, "a", json.dumps("xyz"))
    publish(server.url, "a", json.dumps(["x"]))
    page.wait_for_function("seen.length === 10")
    assert page.evaluate("seen") == [
        ["one", "x", {"n": 1}],
        ["one", "y", [1, 2]],
        ["two", "y", [1, 2]],
        *[[who, "error", "message"] for who in ("one", "two", "three")] * 2,
        ["one", "x", None],
    ]
    page.evaluate("$.eventsource('close', 'mine')")
    until(lambda: stats(server.url) == {}, "the stream is closed")
    assert page.faults == []


@pytest.mark.parametrize(
    "more",
    [
        "'x=1'",
        "{x: 1}",
        "{x: 1, channels: 'other'}",
        "[{name: 'x', value: 1}]",
        "function () { return 'x=1'; }",
    ],
)
def test_more_parameters(server: SseServer, site: Site, browse: Open, jquery: str, more: str) -> None:
    script = f"""
        $.sse({{data: {more}}});
        $('#own').sse({{data: {more}, address: '/sse/'}});
        var addresses = $.map($.eventsource('streams'), function (stream) {{ return stream.url; }});
    """
    body = '<p class="sse" data-sse-channels="a"></p><p id="own" data-sse-channels="b,c d"></p>'
    site.pages["/"] = bare_page(script, jquery, body)
    shared, own = browse(site.url).evaluate("addresses")
    assert shared.startswith("/sse/?x=1&channels=a&uuid=")
    assert own.replace("%20", "+") == "/sse/?x=1&channels=b&channels=c+d"  # jQuery 3 and newer: %20
    until(lambda: stats(server.url) == {"a": 1, "b": 1, "c d": 1}, "both streams")


def test_a_function_that_fails_once_does_not_end_the_stream(
    server: SseServer, site: Site, browse: Open, old: bool
) -> None:
    script = """
        var calls = 0;
        $.eventsource({retry: 100, url: function () {
            calls += 1;
            if (calls === 2 || calls === 4) { throw new Error('no token now'); }
            return calls === 1 ? '/away' : '/sse/';
        }, data: 'channels=a', message: function (data) { seen.push(data); }});
    """
    site.pages["/"] = bare_page(script)
    site.answers["/away"] = [(502, "text/html", "Bad gateway")]
    page = browse(site.url, old)
    until(lambda: page.evaluate("1") and stats(server.url) == {"a": 1}, "the stream")
    publish(server.url, "a", "1")
    page.wait_for_function("seen.length === 1")
    assert set(page.faults) == {"no token now"}


def test_one_connection_of_text(server: SseServer, site: Site, browse: Open, old: bool) -> None:
    body = '<p class="sse" id="one" data-sse-channels="a"></p><p class="sse" id="two"></p>'
    script = """
        $('p').on('sse.message', function (e, text) { seen.push([this.id, text]); });
        $.sse({type: 'text'});
    """
    site.pages["/"] = bare_page(script, body=body)
    page = browse(site.url, old)
    until(lambda: stats(server.url) == {"a": 1}, "the stream")
    publish(server.url, "a", '["x", 1]')
    page.wait_for_function("seen.length === 2")
    assert page.evaluate("seen") == [["one", '["x", 1]'], ["two", '["x", 1]']]


def test_a_page_without_such_elements(site: Site, browse: Open) -> None:
    site.pages["/"] = bare_page("$.sse(); $('p').sse(); seen.push('went on');")
    page = browse(site.url)
    page.wait_for_function("seen.length === 1")
    assert page.evaluate("$.isEmptyObject($.eventsource('streams'))")
    assert page.faults == []


def test_streams_of_elements(server: SseServer, site: Site, browse: Open, old: bool) -> None:
    body = """
        <p id="one" class="one" data-sse-address="/sse/?from=one" data-sse-channels=" a, b "></p>
        <p id="two" class="several" data-sse-channels="c"></p>
        <p id="three" class="several" data-sse-channels="d"></p>
        <p id="four" class="several"></p>
    """
    script = """
        $.each(['open', 'message', 'error'], function (_, name) {
            $('p').on('sse.' + name, function (e, data) {
                seen.push([this.id, name, data && data.type || data]);
            });
        });
        $('#one').sse();
        $('.several').sse({address: '/sse/?tag=1', type: 'text', label: 'several', debug: true});
    """
    site.pages["/"] = bare_page(script, body=body)
    page = browse(site.url, old)
    page.wait_for_function("seen.length === 3")
    assert sorted(page.evaluate("seen")) == [[who, "open", "open"] for who in ("one", "three", "two")]
    assert stats(server.url) == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert sum(path.startswith("/sse/?from=one&") for path in site.requests) >= 1

    page.evaluate("seen = []")
    publish(server.url, "c", "[1]")
    page.wait_for_function("seen.length === 1")
    publish(server.url, "d", "[2]")
    page.wait_for_function("seen.length === 2")
    publish(server.url, "b", "[3]")
    page.wait_for_function("seen.length === 3")
    publish(server.url, "b", "[4")
    page.wait_for_function("seen.length === 4")
    assert page.evaluate("seen") == [
        ["two", "message", "[1]"],
        ["three", "message", "[2]"],
        ["one", "message", [3]],
        ["one", "error", "message"],
    ]
    page.evaluate("$.eventsource('close', 'several'); $.eventsource('close', $('#one').data('sse-label'))")
    until(lambda: stats(server.url) == {"d": 1}, "the third stream is left")
    page.evaluate("$.eventsource('close', 'several-1')")
    until(lambda: stats(server.url) == {}, "no stream is left")
    assert page.faults == []


def test_a_second_call_replaces_the_stream_of_the_same_channels(
    server: SseServer, site: Site, browse: Open, jquery: str
) -> None:
    script = """
        $('p').on('sse.message', function (e, data) { seen.push([this.id, data]); });
        $('p').sse();
        $('<p id="two" data-sse-channels="a">').on('sse.message', function (e, data) {
            seen.push([this.id, data]);
        }).appendTo('body');
        $('p').sse();
        $('#one').sse({channels: 'b'});
    """
    site.pages["/"] = bare_page(script, jquery, '<p id="one" data-sse-channels="a"></p>')
    page = browse(site.url)
    until(lambda: page.evaluate("1") and stats(server.url) == {"a": 2, "b": 1}, "the streams")
    publish(server.url, "a", "1")
    publish(server.url, "b", "2")
    page.wait_for_function("seen.length === 3")
    assert sorted(page.evaluate("seen")) == [["one", 1], ["one", 2], ["two", 1]]
    assert sorted(page.evaluate("Object.keys($.eventsource('streams'))")) == ["sse-1", "sse-2", "sse-3"]


@pytest.mark.parametrize("name", ["jquery.eventsource.js", "jquery.sse.js", "jquery.sse.simple.js"])
def test_old_browsers_can_parse_it(name: str) -> None:
    parse = "require('acorn').parse(require('fs').readFileSync(process.argv[1]), {ecmaVersion: 5})"
    command = [need("node"), "-e", parse, str(ROOT / "media" / name)]
    subprocess.run(command, cwd=node_modules().parent, check=True)
