"""media/ as an npm package: packed, installed, and used by Node.js, a bundler and a compiler."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cyclone_sse import __version__
from tests.harness.clients import publish, request, stats
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, need, until
from tests.harness.servers import SseServer
from tests.integration.browser.conftest import Open
from tests.integration.browser.site import Site, node_modules
from tests.integration.conftest import Serve

MEDIA = ROOT / "media"
HEAR = """
import {connect} from 'cyclone-sse';
const stream = connect(process.argv[2], {channels: ['a']});
stream.on('message', ({json}) => { console.log(JSON.stringify(json)); stream.close(); });
"""


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(folder: Path, package: str | Path) -> None:
    (folder / "package.json").write_text('{"name": "site", "private": true, "type": "module"}')
    flags = ("--offline", "--no-audit", "--no-fund", f"--cache={folder / 'cache'}")
    run(need("npm"), "install", *flags, package, cwd=folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the packed package is installed."""
    folder = tmp_path_factory.mktemp("npm")
    run(need("npm"), "pack", f"--pack-destination={folder}", f"--cache={folder / 'cache'}", cwd=MEDIA)
    (archive,) = folder.glob("*.tgz")
    install(folder, archive)
    return folder


def test_what_is_in_it(project: Path) -> None:
    installed = project / "node_modules" / "cyclone-sse"
    names = {path.name for path in installed.iterdir()}
    assert names == {
        "LICENSE",
        "README.md",
        "cyclone-sse.d.ts",
        "cyclone-sse.global.js",
        "cyclone-sse.js",
        "package.json",
    }
    for name in names:
        assert (installed / name).read_bytes() == (MEDIA / name).read_bytes()
    assert (MEDIA / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    about = json.loads((MEDIA / "package.json").read_text())
    assert {"dependencies", "devDependencies", "scripts"}.isdisjoint(about)
    assert about["version"] == __version__


def test_it_is_what_the_server_serves(serve: Serve, project: Path) -> None:
    served = request("GET", serve("--demo=1").url + "/media/cyclone-sse.js").body
    assert served == (project / "node_modules" / "cyclone-sse" / "cyclone-sse.js").read_bytes()


def test_from_the_folder(tmp_path: Path) -> None:
    """As `npm install ./media` does it."""
    install(tmp_path, MEDIA)
    (tmp_path / "use.js").write_text("import {connect} from 'cyclone-sse'; console.log(typeof connect);")
    assert run(need("node"), "use.js", cwd=tmp_path) == "function\n"


def test_under_node(server: SseServer, project: Path) -> None:
    (project / "hear.js").write_text(HEAR)
    hearing = subprocess.Popen(
        [need("node"), "hear.js", server.url], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    with hearing:
        until(lambda: stats(server.url) == {"a": 1}, "the stream")
        publish(server.url, "a", '{"x": 1}')
        told, _ = hearing.communicate(timeout=PATIENCE)
    assert (told, hearing.returncode) == (b'{"x":1}\n', 0)  # closed, it keeps no process alive


def test_a_relative_address_under_node(project: Path) -> None:
    (project / "hear.js").write_text(HEAR)
    done = subprocess.run(
        [need("node"), "hear.js", "/sse/"],
        cwd=project,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "TypeError: connect: '/sse/' is not an absolute URL" in done.stderr


def test_a_bundler(server: SseServer, site: Site, browse: Open, project: Path) -> None:
    (project / "page.js").write_text(
        "import {connect} from 'cyclone-sse'; window.seen = [];\n"
        "connect('/sse/', {channels: 'a'}).on('message', ({json}) => seen.push(json));"
    )
    esbuild = node_modules() / "esbuild" / "bin" / "esbuild"
    script = run(esbuild, "page.js", "--bundle", "--minify", "--format=iife", cwd=project)
    site.pages["/"] = f"<!DOCTYPE html><title>x</title><script>{script}</script>"
    page = browse(site.url)
    until(lambda: stats(server.url) == {"a": 1}, "the stream")
    publish(server.url, "a", "1")
    page.wait_for_function("seen.length === 1")


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["bundler", "node16"])
def test_a_compiler(project: Path, resolution: str) -> None:
    """The strictest settings; as for a program of Node.js, without the types of browsers."""
    (project / "node.d.ts").write_text("declare class URL { constructor(text: string); }\n")
    (project / "use.ts").write_text(
        "import {connect, type Options, type Presence, type Stream} from 'cyclone-sse';\n"
        "declare const saved: string | undefined;\n"
        "const options: Options = {channels: ['a'], state: true, token: saved, lastEventId: saved};\n"
        "const stream: Stream = connect(new URL('http://localhost:8888/'), options);\n"
        "stream.on('presence', (room: Presence<{name: string}>) => Object.values(room.members)[0]?.name);\n"
    )
    compiler = node_modules() / "typescript" / "bin" / "tsc"
    module = "esnext" if resolution == "bundler" else resolution
    flags = [
        *("--noEmit", "--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"),
        *("--target", "es2022", "--lib", "es2022", "--module", module, "--moduleResolution", resolution),
    ]
    run(need("node"), compiler, *flags, "node.d.ts", "use.ts", cwd=project)
