"""cyclone_sse_client.django in a real project, with the Django of this environment and with others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.client_site import ClientSite
from tests.harness.clients import Subscriber, publish, request
from tests.harness.docs import commands, shown
from tests.harness.process import ROOT, free_port, until
from tests.harness.servers import SseServer
from tests.harness.sites import Browser

PAGE = "clients/python/README.md"
SECRET = "0123456789abcdef0123456789abcdef"
THIS_ONE = "this environment"
VERSIONS = [THIS_ONE, *(pytest.param(name, marks=pytest.mark.slow) for name in ("4.2", "5.2"))]
Project = tuple[SseServer, ClientSite]
BY_ASGI = """
import asyncio, sys
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application

async def get(path, cookie):
    scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"cookie", cookie.encode())]}
    asked = ApplicationCommunicator(get_asgi_application(), scope)
    await asked.send_input({"type": "http.request"})
    print((await asked.receive_output(120))["status"])
    await asked.wait(120)

asyncio.run(get(*sys.argv[1:]))
"""


def environment(directory: Path, version: str) -> Path:
    """The Python of a fresh environment with this Django and the package as the page installs it."""
    source = directory / "clients" / "python"
    shutil.copytree(ROOT / "clients" / "python", source, ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(directory / "venv", with_pip=True, symlinks=True)
    programs = directory / "venv" / "bin"
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env = outside | {"PATH": f"{programs}:{os.environ['PATH']}", "PIP_QUIET": "1"}
    for command in commands(PAGE):
        if "pip install" in command and "async" not in command:
            subprocess.run(["bash", "-c", command], cwd=directory, env=env, check=True, timeout=300)
    # what a Python like this brings along where the wheels of a site are built
    subprocess.run(
        [
            "bash",
            "-c",
            f"pip install 'django=={version}.*' && pip check && pip wheel --no-deps ./clients/python",
        ],
        cwd=directory,
        env=env,
        check=True,
        timeout=300,
    )
    assert list(directory.glob("cyclone_sse_client-*-py3-none-any.whl"))
    return programs / "python"


@pytest.fixture(scope="module", params=VERSIONS)
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The Python with each Django in turn; None is this one."""
    if request.param == THIS_ONE:
        return None
    return environment(tmp_path_factory.mktemp(f"django-{request.param}"), request.param)


@pytest.fixture
def project(python: Path | None, tmp_path: Path) -> Iterator[Project]:
    """A server that asks the project, and the project."""
    port = free_port()
    rules = tmp_path / "channels.toml"
    rules.write_text('["room-*"]\npresence = true\n')
    options = [f"--auth-url=http://127.0.0.1:{port}/push/auth", "--http-secret=KEY", "--public=front"]
    options.append(f"--channels={rules}")
    with ExitStack() as stack:
        server = stack.enter_context(SseServer(tmp_path, *options))
        yield server, stack.enter_context(ClientSite(tmp_path, server.url, port, python))


def status(url: str, channel: str, headers: dict[str, str] | None = None) -> int:
    """What a client of this channel is answered. It leaves at once."""
    client = Subscriber(url, channel, headers=headers).wait_open()
    client.close()
    return client.status


def test_a_session_decides_and_publishes_and_ends(project: Project) -> None:
    server, site = project
    ann, bob = Browser(site.url), Browser(site.url)
    assert status(server.url, "user-1") == 401
    assert ann.get("/login", name="ann") == (200, "1")
    assert bob.get("/login", name="bob") == (200, "2")
    assert status(server.url, "user-2", ann.cookies) == 403
    assert status(server.url, "room-tea", ann.cookies) == 403
    ann.get("/join", room="tea")
    with (
        Subscriber(server.url, ["user-1", "room-tea", "room-other"], headers=ann.cookies) as stream,
        Subscriber(server.url, "user-2", headers=bob.cookies) as other,
    ):
        publish(server.url, "room-other", "not allowed", key="KEY")
        assert ann.get("/pay", fail="1")[0] == 500
        assert ann.get("/pay") == (200, "paid")
        # Only what was committed was published, as it was when it was published.
        paid = {"total": "9.90", "at": "2026-01-02T03:04:00Z", "text": "paid"}
        assert json.loads(stream.event().data) == paid
        cookies = ann.cookies
        assert ann.get("/logout") == (200, "bye")
        stream.wait_end()
        assert status(server.url, "user-1", cookies) == 401
        assert bob.get("/end") == (200, "ended")
        other.wait_end()


def test_a_logout_ends_streams_by_asgi(project: Project) -> None:
    server, site = project
    ann = Browser(site.url)
    ann.get("/login", name="ann")
    with Subscriber(server.url, "user-1", headers=ann.cookies) as stream:
        assert site.run("-c", BY_ASGI, "/logout", ann.cookies["Cookie"]) == "200\n"
        stream.wait_end()
    assert status(server.url, "user-1", ann.cookies) == 401


def test_a_push_that_fails_does_not_fail_the_request(project: Project) -> None:
    server, site = project
    ann = Browser(site.url)
    ann.get("/login", name="ann")
    server.kill()
    assert ann.get("/pay") == (200, "paid")
    assert ann.get("/logout") == (200, "bye")
    until(lambda: "Error calling" in site.log and "were not ended" in site.log, "a line about each")
    assert ann.get("/now")[0] == 500


@pytest.mark.parametrize("path", ["/page", "/push/token"])
def test_a_token_in_a_page_and_by_a_view(project: Project, tmp_path: Path, path: str) -> None:
    _, site = project
    ann = Browser(site.url)
    ann.get("/login", name="ann")
    answer, token = ann.get(path)
    assert answer == 200
    with SseServer(tmp_path, f"--jwt-secret={SECRET}") as server:
        for channel, expected in (("user-1", 200), ("front", 200), ("user-2", 403)):
            assert (
                request("HEAD", f"{server.url}/?channels={channel}&access_token={token}").status == expected
            )


def test_after_the_logout_there_is_no_new_token_but_the_old_one_is_valid(
    project: Project, tmp_path: Path
) -> None:
    _, site = project
    ann = Browser(site.url)
    ann.get("/login", name="ann")
    _, token = ann.get("/push/token")
    ann.get("/logout")
    assert ann.get("/push/token") == (401, "")
    with SseServer(tmp_path, f"--jwt-secret={SECRET}") as server:
        assert request("HEAD", f"{server.url}/?channels=user-1&access_token={token}").status == 200


def test_the_command_publishes(project: Project) -> None:
    server, site = project
    with Subscriber(server.url, "front") as client:
        assert "to 1 clients" in site.run("-m", "django", "ssepublish", "front", "Hello")
        site.run("-m", "django", "ssepublish", "front", '{"n": 1}', "--json", "--event=x")
        assert client.data(2) == ["Hello", '{"n":1}']


def test_a_page_asks_what_is_so_now(project: Project) -> None:
    server, site = project
    ann = Browser(site.url)
    ann.get("/login", name="ann")
    ann.get("/join", room="tea")
    with Subscriber(server.url, "room-tea", headers=ann.cookies):
        until(lambda: ann.get("/ask")[1].startswith("{'1': "), "the member")


def test_a_test_of_the_project_records(project: Project) -> None:
    _, site = project
    (site.directory / "tests.py").write_text(
        shown(PAGE, "tests.py", "python")
        .replace('self.client.post("/pay")', 'publish("user-7", {"paid": 7}); disconnect(user=7)')
        .replace("import backends", "import backends, disconnect, publish")
    )
    assert "OK" in site.run("-m", "django", "test", "tests")


def test_a_name_in_the_settings_that_is_unknown(project: Project) -> None:
    _, site = project
    site.env["DJANGO_SETTINGS_MODULE"] = "wrong"
    (site.directory / "wrong.py").write_text("from shop.settings import *\nCYCLONE_SSE = {'SECRET': 'x'}\n")
    with pytest.raises(AssertionError, match="unknown name in CYCLONE_SSE: 'SECRET'"):
        site.run("-m", "django", "check")
