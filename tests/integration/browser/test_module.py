"""media/cyclone-sse.js: alone under Node.js, its files, and in a page with a server."""

from __future__ import annotations

import json
import subprocess
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from tests.harness.clients import publish, stats
from tests.harness.patience import PATIENCE
from tests.harness.process import need, until
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site, module_page, node_modules
from tests.integration.conftest import Serve
from tools.plain_module import MODULE, PLAIN, module, plain

HERE = Path(__file__).parent
CASES = json.loads((HERE / "format_cases.json").read_text())
SMALL = 15_300  # bytes, minified
LISTEN = """
    window.states = []; window.gaps = [];
    const listen = (options) => {
        window.stream = connect('/sse/', {channels: ['a'], ...options});
        stream.on('message', (event) => seen.push(event.json));
        stream.on('state', ({state}) => states.push(state));
        stream.on('gap', ({channels}) => gaps.push(channels));
    };
"""
# run(url, types): what the browser's EventSource and the module make of one answer
READ = """
    window.run = (url, types) => Promise.all([
        new Promise((resolve) => {
            const events = [], source = new EventSource(url);
            const note = ({type, data, lastEventId}) => events.push([type, data, lastEventId]);
            types.forEach((type) => source.addEventListener(type, note));
            source.onerror = () => { source.close(); resolve(events); };
        }),
        new Promise((resolve) => {
            const events = [], stream = connect(url, {channels: 'a'});
            stream.on('*', ({type, data, lastEventId}) => events.push([type, data, lastEventId]));
            stream.on('state', ({state}) => {
                if (state === 'waiting') { stream.close(); resolve(events); }
            });
        })
    ]);
"""


def test_under_node() -> None:
    command = [need("node"), "--test", *map(str, sorted(HERE.glob("module*.test.mjs")))]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "# fail 0" in done.stdout


def test_it_is_small() -> None:
    terser = node_modules() / "terser" / "bin" / "terser"
    command = [need("node"), str(terser), "--module", "--compress", "--mangle", "--", str(MODULE)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    assert 4000 < len(done.stdout) < SMALL


@pytest.mark.slow
def test_its_types(tmp_path: Path) -> None:
    """What the documentation shows is accepted, and what is wrong is not."""
    wrong = {
        "connect('/sse/', {channel: 'a'});": "'channel' does not exist",
        "connect('/sse/').on('gap', (event) => event.data);": "'data' does not exist",
        "connect('/sse/').on('state', ({state}) => state === 'closed');": "no overlap",
    }
    right = """
        const stream: Stream = connect('/sse/', {
            channels: ['a'], token: async () => 't', shared: true, lastEventId: 'earliest',
            state: true, poll: 'auto'
        });
        stream.on<{name: string}>('presence', ({members, left, count, anonymous}) =>
            [members[42]?.name, left[0]?.length, count + anonymous]);
        stream.client.length;
        const off: () => void = stream.on<{x: number}>('news', (event) => event.json?.x.toFixed(2));
        stream.on('message', ({type, data, lastEventId}) => [type, data, lastEventId].join());
        stream.on('state', ({state, reason, status}) => state === 'stopped' && (status === 403 || reason));
        stream.on('gap', ({channels}) => stream.add(channels));
        stream.remove('a');
        stream.close();
        off();
    """
    use = tmp_path / "use.ts"
    lines = [
        f"import {{connect, type Stream}} from '{MODULE.with_suffix('')}.js';",
        *right.splitlines(),
        *wrong,
    ]
    use.write_text("\n".join(lines))
    compiler = node_modules() / "typescript" / "bin" / "tsc"
    options = [
        "--noEmit",
        "--strict",
        "--target",
        "es2022",
        "--module",
        "esnext",
        "--moduleResolution",
        "bundler",
    ]
    command = [need("node"), str(compiler), *options, str(use)]
    told = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120
    ).stdout.splitlines()
    faults = [line for line in told if "error TS" in line]
    assert len(faults) == len(wrong), told
    for fault, expected in zip(faults, wrong.values(), strict=True):
        assert expected in fault


def test_what_is_made_from_its_source_is_up_to_date() -> None:
    assert MODULE.read_text() == module(), "python -m tools.plain_module"
    assert PLAIN.read_text() == plain(MODULE.read_text()), "python -m tools.plain_module"


def test_the_plain_script_in_a_page(server: SseServer, site: Site, browse: Open) -> None:
    site.pages["/"] = (
        '<!DOCTYPE html><title>Test</title><script src="/media/cyclone-sse.global.js"></script><script>\n'
        "var seen = [], stream = cycloneSSE.connect('/sse/', {channels: 'a'});\n"
        "stream.on('message', function (event) { seen.push(event.json); });</script>"
    )
    page = browse(site.url)
    until(lambda: stats(server.url) == {"a": 1}, "the stream")
    publish(server.url, ["a"], "[1]")
    page.wait_for_function("seen.length === 1")
    assert page.faults == []


def test_the_plain_script_in_a_worker(server: SseServer, site: Site, browse: Open) -> None:
    site.pages["/"] = module_page("""
        const text = `importScripts('${origin}/media/cyclone-sse.global.js');
            cycloneSSE.connect('${origin}/sse/', {channels: 'a', shared: true})
                .on('message', (event) => postMessage(event.json));`;
        window.worker = new Worker(URL.createObjectURL(new Blob([text], {type: 'text/javascript'})));
        worker.onmessage = ({data}) => seen.push(data);
    """)
    page = browse(site.url)
    until(lambda: stats(server.url) == {"a": 1}, "the stream")
    publish(server.url, ["a"], "[1]")
    page.wait_for_function("seen.length === 1")


def test_an_address_below_that_of_the_page(server: SseServer, site: Site, browse: Open) -> None:
    """A page says with <base> what its addresses are relative to, also for EventSource."""
    page = module_page("connect('./', {channels: 'a'});").replace("<title>", '<base href="/sse/"><title>')
    site.pages["/"] = page
    browse(site.url)
    until(lambda: stats(server.url) == {"a": 1}, "the stream")


def test_it_reads_the_format_as_the_browser_does(site: Site, browse: Open) -> None:
    """Each case through the browser's own EventSource too, which is not of this project."""
    for number, case in enumerate(CASES):
        site.answers[f"/case/{number}"] = [(200, "text/event-stream", case["stream"])] * 2
    site.pages["/"] = module_page(READ)
    page = browse(site.url)
    page.wait_for_function("!!window.run")
    for number, case in enumerate(CASES):
        types = sorted({kind for kind, _, _ in case["events"]})
        native, module = page.evaluate("([url, types]) => run(url, types)", [f"/case/{number}", types])
        assert native == case["events"], case["name"]
        assert module == case["events"], case["name"]


def test_the_network_was_cut(server: SseServer, site: Site, browse: Open) -> None:
    site.pages["/"] = module_page(LISTEN + "listen({ping: 500});")
    page = browse(site.url)
    page.wait_for_function("window.states?.includes('open')")
    publish(server.url, ["a"], "0")
    page.wait_for_function("seen.length === 1")
    site.cut()
    for message in range(1, 20):
        publish(server.url, ["a"], str(message))
    page.wait_for_function("states.includes('waiting')")
    site.heal()
    page.wait_for_function("seen.length >= 20")
    publish(server.url, ["a"], "20")
    page.wait_for_function("seen.includes(20)")
    assert page.evaluate("[seen, gaps]") == [list(range(21)), []]


@pytest.mark.parametrize("event", ["online", "visibilitychange"])
def test_it_comes_back_at_once_when_it_is_seen_again(
    server: SseServer, site: Site, browse: Open, event: str
) -> None:
    site.pages["/"] = module_page(LISTEN + "listen();")
    site.answers["/far"] = [(200, "text/event-stream", "retry: 3600000\n\n")]
    page = browse(site.url)
    page.wait_for_function("window.states?.includes('open')")
    page.evaluate(
        "() => { far = connect('/far', {channels: 'a'});"
        "far.on('state', ({state}) => { farState = state; }); }"
    )
    page.wait_for_function("window.farState === 'waiting'")
    asked = len(site.requests)
    site.answers["/far"] = [(200, "text/event-stream", "data: 1\n\n")]
    page.evaluate("() => { far.on('message', (event) => seen.push(event.json)); }")
    page.evaluate("(type) => (type === 'online' ? window : document).dispatchEvent(new Event(type))", event)
    page.wait_for_function("seen.length === 1")
    assert len(site.requests) == asked + 1  # the stream that is open was left alone


def test_a_page_that_is_left_and_kept(server: SseServer, site: Site, browse: Open) -> None:
    """As the browser does before it puts a page into its back/forward cache, and after."""
    site.pages["/"] = module_page(LISTEN + "listen();")
    page = browse(site.url)
    page.wait_for_function("window.states?.includes('open')")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    until(lambda: stats(server.url) == {}, "the page has closed its connection")
    publish(server.url, ["a"], "1")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    page.wait_for_function("seen.length === 1")


def test_channels_come_and_go_on_a_busy_server(serve: Serve, site: Site, browse: Open) -> None:
    server = serve("--history-size=100000")  # without it, a browser that is slow to come back has a gap
    site.backend_port = server.port
    site.pages["/"] = module_page(LISTEN + "listen();")
    page = browse(site.url)
    page.wait_for_function("window.states?.includes('open')")
    ended = threading.Event()
    told: list[tuple[str, int]] = []

    def busy() -> None:
        count = 0
        while not ended.wait(0.002):
            for channels in (["a"], ["b"], ["a", "b", "c"]):
                count += 1
                told.append(("".join(channels), count))
                publish(server.url, channels, str(count))

    publisher = threading.Thread(target=busy, daemon=True)
    publisher.start()
    try:
        for change in ("add('b')", "add(['c'])", "remove('b')", "add('b')"):
            page.evaluate(f"stream.{change}")
            wanted = set(page.evaluate("stream.channels"))
            until(lambda wanted=wanted: set(stats(server.url)) == wanted, change)  # type: ignore[misc]
            mark = page.evaluate("seen.length")
            page.wait_for_function(f"seen.length > {mark} + 100")
    finally:
        ended.set()
        publisher.join()
    page.wait_for_function(f"seen.includes({told[-1][1]})")
    seen = page.evaluate("seen")
    assert len(set(seen)) == len(seen)
    assert [n for n in seen if n % 3 != 2] == [n for channels, n in told if "a" in channels]
    only_b = [n for n in seen if n % 3 == 2]
    holes = [n for n, following in pairwise(only_b) if following != n + 3]
    assert len(holes) == 1  # while it was away
    assert page.faults == []


def test_the_server_was_restarted(serve: Serve, browse: Open) -> None:
    server = serve("--retry=200")
    with Site(server.port) as site:
        site.pages["/"] = module_page(LISTEN + "listen();")
        page = browse(site.url)
        until(lambda: stats(server.url) == {"a": 1}, "the stream")
        publish(server.url, "a", "0")
        page.wait_for_function("seen.length === 1")
        server.kill()
        page.wait_for_function("states.filter((state) => state === 'waiting').length > 2")
        server.start()
        page.wait_for_function("gaps.length > 0")
        publish(server.url, "a", "1")
        page.wait_for_function("seen.length === 2")
        assert page.evaluate("[seen, gaps]") == [[0, 1], [["a"]]]
