"""The real servers that integration tests start on free ports: the daemon, its brokers, proxy and statistics.

A test gets them from the fixtures in `conftest.py`. None of them touches a server that the machine runs
already.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, Process, accepts, free_port, need, until
from tests.harness.twistd import TWISTD


class SseServer(Process):
    """`twistd -n cyclone-sse` from this checkout, on a free port.

    `options` are the plugin's, as `"--broker=redis"`; `env` is added to an environment without CYCLONE_SSE_*;
    `twistd` lets a test run another installation, `flags` are twistd's own, before the plugin's name.
    """

    name = "cyclone-sse"

    def __init__(
        self,
        directory: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        twistd: Path | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self.ssl_port = free_port()
        self.name = f"cyclone-sse-{self.port}"
        python_path = {} if twistd else {"PYTHONPATH": str(ROOT)}
        super().__init__(
            directory, env={"PYTHONUNBUFFERED": "1", **python_path, **(env or {})}, cwd=cwd or directory
        )
        self.options = list(options)
        self.flags = list(flags)
        self.twistd = twistd or TWISTD

    def argv(self) -> list[str]:
        ports = [f"--port={self.port}", f"--ssl-port={self.ssl_port}"]
        return [str(self.twistd), "-n", "--pidfile=", *self.flags, "cyclone-sse", *ports, *self.options]

    def is_ready(self) -> bool:
        """With workers: whether all of them serve."""
        for option in self.options:
            if option.startswith("--workers=") and (count := option.partition("=")[2]) != "1":
                return f"{count} workers of cyclone-sse serve http" in self.log_of_this_run
        return "cyclone-sse serves http" in self.log_of_this_run

    @property
    def url(self) -> str:
        """Where it serves plain HTTP, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ssl_url(self) -> str:
        """Where it serves TLS when it was started with `--use-ssl=1`."""
        return f"https://127.0.0.1:{self.ssl_port}"

    def start(self) -> SseServer:
        inherited = [name for name in os.environ if name.startswith("CYCLONE_SSE_")]
        assert not inherited, f"unset {inherited}: the daemon would read them"
        super().start()
        return self

    def stop(self) -> None:
        """End it by SIGTERM, and hold it to a clean end and a log without one unexpected error."""
        if not self.running:
            return
        super().stop()
        code = self.wait()
        assert code in (0, -signal.SIGTERM), f"exit code {code}:\n{self.log}"
        self.check_log()

    def check_log(self) -> None:
        """AssertionError when the log of any run tells of a bug."""
        for sign in ("Traceback", "Unhandled"):
            assert sign not in self.log, f"{sign!r} in the log of {self.name}:\n{self.log}"

    def tell(self) -> str:
        """Beside the log, what it serves at this moment."""
        told = super().tell()
        if self.running:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
            with closing(connection):
                try:
                    connection.request("GET", "/stats")
                    told += f"/stats: {connection.getresponse().read(1000)!r}\n"
                except (OSError, http.client.HTTPException) as error:
                    told += f"/stats: {error!r}\n"
        return told

    def memory(self) -> int:
        """Resident memory in bytes."""
        resident_pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return resident_pages * os.sysconf("SC_PAGE_SIZE")


def redis_command(*words: str | bytes) -> bytes:
    """A command in Redis's protocol (RESP): a count, then each word with its length."""
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


class RedisServer(Process):
    """A redis-server without persistence; `options` as on its command line: `"--requirepass", "secret"`."""

    name = "redis"

    def __init__(self, directory: Path, *options: str) -> None:
        super().__init__(directory, cwd=directory)
        self.port = free_port()
        self.options = list(options)
        self.program = need("redis-server")

    def argv(self) -> list[str]:
        where = ["--bind", "127.0.0.1", "--port", str(self.port)]
        return [self.program, *where, "--save", "", "--appendonly", "no", *self.options]

    def is_ready(self) -> bool:
        return "Ready to accept connections" in self.log_of_this_run

    def command(self, *words: str | bytes) -> bytes:
        """Run one command over a connection of its own; returns the first bytes of the raw reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.sendall(redis_command(*words))
            return connection.recv(65536)

    def publish(self, channel: str, message: str | bytes) -> int:
        """PUBLISH; returns to how many subscriptions it went."""
        return int(self.command("PUBLISH", channel, message).strip()[1:])


class RabbitServer(Process):
    """A RabbitMQ node of its own: own name, cookie, port mapper and data, all below `directory`."""

    name = "rabbitmq"

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        # the program itself: Debian's wrapper in /usr/sbin changes the user and the environment
        self.program = need("/usr/lib/rabbitmq/bin/rabbitmq-server")
        self.mapper_port = free_port()
        config = directory / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\nlog.console = true\n"
        )
        (directory / "enabled_plugins").write_text("[].\n")
        settings = {
            "RABBITMQ_NODENAME": f"cyclone-sse-test-{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "no-environment"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PID_FILE": str(directory / "rabbitmq.pid"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +A 4",
            "ERL_EPMD_PORT": str(self.mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "HOME": str(directory),
        }
        super().__init__(directory, env=settings, cwd=directory)

    def argv(self) -> list[str]:
        return [self.program]

    def is_ready(self) -> bool:
        return "Server startup complete" in self.log_of_this_run and accepts(self.port)

    def stop(self) -> None:
        super().stop()
        self._stop_mapper()

    def kill(self) -> None:
        super().kill()
        # our child is the script around the virtual machine, which dies a moment after it
        until(lambda: not accepts(self.port), "the port of RabbitMQ is closed")
        self._stop_mapper()

    def listed(self, *words: str) -> str:
        """Like `control`, for a list. rabbitmqctl may not return while the node deletes what it lists."""
        with suppress(subprocess.TimeoutExpired):
            return self.control("-q", *words, patience=PATIENCE / 2)
        return self.control("-q", *words)

    def control(self, *words: str, patience: float = PATIENCE) -> str:
        """Run rabbitmqctl on this node; returns what it prints. `-q` leaves only the answer."""
        done = subprocess.run(
            ["/usr/lib/rabbitmq/bin/rabbitmqctl", *words],
            env=os.environ | self.env,
            cwd=self.directory,
            capture_output=True,
            check=False,
            text=True,
            timeout=patience,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _stop_mapper(self) -> None:
        """End the port mapper (epmd) that Erlang started in the background for this node alone."""
        subprocess.run(
            ["epmd", "-port", str(self.mapper_port), "-kill"],
            check=False,
            capture_output=True,
            timeout=PATIENCE,
        )


class Nginx(Process):
    """An nginx whose `http` block is the text given; in it `{port}` stands for the free port it has.

    `modules` names dynamic modules to load, as `"ngx_nchan_module.so"`.
    """

    name = "nginx"

    def __init__(self, directory: Path, http: str, *, modules: Sequence[str] = ()) -> None:
        super().__init__(directory, cwd=directory)
        self.port = free_port()
        self.program = need("nginx")
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
        load = "\n".join(f"load_module /usr/lib/nginx/modules/{module};" for module in modules)
        self.config = directory / "nginx.conf"
        self.config.write_text(
            f"{load}\ndaemon off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\n"
            f"pid {directory}/nginx.pid;\nerror_log stderr notice;\n"
            f"events {{ worker_connections 19000; }}\n"
            f"http {{\naccess_log off;\n{temporary}\n{http.replace('{port}', str(self.port))}\n}}\n"
        )

    def argv(self) -> list[str]:
        return [self.program, "-p", str(self.directory), "-e", "stderr", "-c", str(self.config)]

    def is_ready(self) -> bool:
        return accepts(self.port)

    @property
    def url(self) -> str:
        """Where it serves, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"


class Carbon(Process):
    """carbon-cache with its UDP listener on `port`; writes whisper files below `<directory>/whisper`."""

    name = "carbon"

    def __init__(self, directory: Path) -> None:
        plugins = str(Path(sys.prefix) / "carbon")  # see the Makefile
        super().__init__(
            directory, env={"GRAPHITE_ROOT": str(directory), "PYTHONPATH": plugins}, cwd=directory
        )
        self.port = free_port()
        self.whisper = directory / "whisper"
        if sys.version_info >= (3, 12):
            pytest.skip("carbon cannot be installed on Python 3.12 and up")
        (directory / "storage-schemas.conf").write_text("[all]\npattern = .*\nretentions = 1s:1h\n")
        (directory / "carbon.conf").write_text(
            "[cache]\n"
            f"STORAGE_DIR = {directory}\nCONF_DIR = {directory}\nLOG_DIR = {directory}\n"
            f"PID_DIR = {directory}\nLOCAL_DATA_DIR = {self.whisper}\nENABLE_UDP_LISTENER = True\n"
            f"UDP_RECEIVER_INTERFACE = 127.0.0.1\nUDP_RECEIVER_PORT = {self.port}\n"
            "LINE_RECEIVER_INTERFACE = 127.0.0.1\n"
            f"LINE_RECEIVER_PORT = {free_port()}\nPICKLE_RECEIVER_PORT = 0\n"
            f"CACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {free_port()}\n"
            "MAX_CREATES_PER_MINUTE = inf\nMAX_UPDATES_PER_SECOND = inf\nCARBON_METRIC_INTERVAL = 0\n"
        )

    def argv(self) -> list[str]:
        # not carbon-cache.py: it asks for the epoll reactor after it has imported the default one
        return [str(TWISTD), "-n", "--pidfile=", "carbon-cache", f"--config={self.directory}/carbon.conf"]

    def is_ready(self) -> bool:
        return re.search(rf"starting on {self.port}\b", self.log_of_this_run) is not None

    def file_of(self, metric: str) -> Path:
        """The whisper file of a metric, whether or not it exists yet."""
        return self.whisper.joinpath(*metric.split(".")).with_suffix(".wsp")
