"""The command line: defaults, the environment, and one clear line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyclone_sse.daemon.command_line import Options, read_config
from cyclone_sse.options import OPTIONS


def parse(*words: str, **environment: str) -> Options:
    options = Options({f"CYCLONE_SSE_{name}": value for name, value in environment.items()})
    options.parseOptions(words)
    return options


def test_defaults_are_those_of_the_contract() -> None:
    options = parse()
    expected = {
        "port": 8888,
        "listen": "127.0.0.1",
        "app": None,
        "use-ssl": False,
        "ssl-port": 8443,
        "ssl-cert": "server.crt",
        "broker": "http",
        "http-secret": None,
        "redis-port": 6379,
        "amqp-exchange-name": "sse-cyclone-server",
        "amqp-exchange-type": "direct",
        "amqp-channel": 1,
        "export": None,
        "export-interval": 60,
        "export-path": "cyclone-sse",
        "history-size": 100,
        "history-ttl": 300,
        "history-bytes": 64 * 2**20,
        "client-buffer": 2**20,
        "max-body": 2**20,
        "ping-interval": 30,
        "retry": 0,
        "linger": 300.0,
        "cors-origin": ("*",),
        "workers": 1,
        "drain": 0,
        "max-age": 0,
        "stall-timeout": 60,
        "max-channels": 500,
        "max-patterns": 20,
        "patterns": False,
        "redis-prefix": "",
        "redis-stream": "cyclone-sse",
        "redis-stream-size": 100_000,
        "redis-sentinel": (),
        "redis-sentinel-name": "mymaster",
        "endpoint": (),
        "public": (),
        "jwt-cookie": "cyclone_sse_token",
        "auth-concurrency": 50,
        "admin-port": None,
        "admin-listen": "127.0.0.1",
        "stats": True,
    }
    assert {name: options[name] for name in expected} == expected


def test_the_command_line_wins_over_the_environment_over_the_default() -> None:
    assert parse(PORT="9000")["port"] == 9000
    assert parse("--port=8888", PORT="9000")["port"] == 8888
    assert parse("--port=", PORT="9000")["port"] == 9000
    assert parse("--port=", PORT="")["port"] == 8888
    assert parse(HTTP_SECRET="s", CORS_ORIGIN="https://a.example")["cors-origin"] == ("https://a.example",)


def test_every_option_takes_its_own_default() -> None:
    for row in OPTIONS:
        if row.default:
            assert parse(f"--{row.name}={row.default}")[row.name] == parse()[row.name]


def test_origins_come_with_commas_or_repeated() -> None:
    two = ("https://a.example", "http://b.example:81")
    assert parse("--cors-origin=https://a.example/, http://b.example:81")["cors-origin"] == two
    assert parse(*[f"--cors-origin={origin}" for origin in two])["cors-origin"] == two


@pytest.mark.parametrize(
    "words",
    [
        ["--port=0"],
        ["--port=²"],
        ["--workers=2"],
        ["--history-file=a", "--broker=redis"],
        ["--history-file=a", "--history-size=0"],
        ["--history-file=a", "--history-ttl=0"],
        ["--jwt-secret=short"],
        ["--jwt-secret=" + "x" * 32, "--jwt-keys=keys.pem"],
        ["--port=65536"],
        ["--port=x"],
        ["--port=-1"],
        ["--broker=nats"],
        ["--export=statsd"],
        ["--export=graphite"],
        ["--export=graphite", "--export-host=h"],
        ["--export-interval=0"],
        ["--export-interval=inf"],
        ["--export-interval=nan"],
        ["--use-ssl=yes"],
        ["--amqp-exchange-type=headers"],
        ["--cors-origin=example.com"],
        ["--log-level=loud"],
        ["--nonsense"],
        ["word"],
    ],
)
def test_what_is_wrong_is_one_line(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(*words)
    assert str(ended.value.code).startswith("cyclone-sse: ")
    assert "\n" not in str(ended.value.code)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("--histroy-size=5", "; did you mean --history-size?"),
        ("--redis_host=h", "; did you mean --redis-host?"),
        ("--qqq", "option --qqq not recognized"),
        ("--http-secret", "option --http-secret requires argument"),
        ("chekc", "'chekc' is not an option; a command comes first: cyclone-sse check, publish or token"),
    ],
)
def test_a_misspelt_word_is_told_with_what_may_be_meant(word: str, told: str) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(word)
    assert str(ended.value.code).endswith(told)


def test_the_environment_is_named_when_it_is_wrong() -> None:
    with pytest.raises(SystemExit, match="CYCLONE_SSE_PORT=x: expected a whole number"):
        parse(PORT="x")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SystemExit) as ended:
        parse("--port=x", "--retry=y", REDIS_PORT="0")
    told = str(ended.value.code).splitlines()
    assert [line.partition("=")[0] for line in told] == [
        "cyclone-sse: --port",
        "cyclone-sse: CYCLONE_SSE_REDIS_PORT",
        "cyclone-sse: --retry",
    ]


def test_a_secret_is_not_shown_when_it_is_wrong() -> None:
    with pytest.raises(SystemExit) as ended:
        parse("--jwt-secret=hush")
    assert str(ended.value.code) == "cyclone-sse: --jwt-secret: expected at least 32 bytes"


def test_endpoints_are_repeated() -> None:
    assert parse("--endpoint=unix:/run/a.sock", "--endpoint=tcp:0")["endpoint"] == (
        "unix:/run/a.sock",
        "tcp:0",
    )
    assert parse(ENDPOINT="unix:/run/a.sock tcp:0")["endpoint"] == ("unix:/run/a.sock", "tcp:0")


def test_no_plain_port_where_there_is_another() -> None:
    assert parse("--port=0", "--use-ssl=1")["port"] == 0
    assert parse("--port=0", "--endpoint=unix:/run/a.sock")["port"] == 0


def write_config(directory: Path, text: str) -> str:
    """The option that names a file with this text."""
    path = directory / "sse.conf"
    path.write_text(text)
    return f"--config={path}"


def test_a_file_comes_after_the_environment_and_before_the_default(tmp_path: Path) -> None:
    config = write_config(tmp_path, "# a comment\n\nport = 9001\n--drain=5\nhttp-secret=a = #b\nretry=\n")
    assert parse(config)["port"] == 9001
    assert parse(config)["drain"] == 5
    assert parse(config)["retry"] == 0, "empty is not set"
    assert parse(config)["http-secret"] == "a = #b", "a # within a line is no comment"
    assert parse(config, PORT="9002")["port"] == 9002
    assert parse(config, "--port=9003", PORT="9002")["port"] == 9003
    assert parse(CONFIG=config.partition("=")[2])["port"] == 9001


def test_the_sample_on_the_command_line_is_a_config_file_too() -> None:
    sample = Path(__file__).parents[3] / "cyclone-sse.conf"
    for words in (sample.read_text().splitlines(), [f"--config={sample}"]):
        assert parse(*words)["port"] == 8888


def test_a_file_may_be_from_windows(tmp_path: Path) -> None:
    file = tmp_path / "sse.conf"
    file.write_bytes("\ufeff# options\r\nport=80\r\n".encode())
    assert read_config(str(file)) == {"port": "80"}


def test_a_repeatable_option_may_stand_in_several_lines_of_a_file(tmp_path: Path) -> None:
    config = write_config(tmp_path, "endpoint=unix:/run/a.sock\nendpoint=tcp:0\n")
    assert parse(config)["endpoint"] == ("unix:/run/a.sock", "tcp:0")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http-secrets=x", "line 1: there is no option 'http-secrets'; did you mean http-secret?"),
        ("\nport", "line 2: expected port=value"),
        ("config=other.conf", "line 1: an options file cannot name another one"),
        ("port=x", "port=x: expected a whole number"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_that_names_it(tmp_path: Path, text: str, told: str) -> None:
    config = write_config(tmp_path, text)
    with pytest.raises(SystemExit) as ended:
        parse(config)
    assert config.partition("=")[2] in str(ended.value.code)
    assert told in str(ended.value.code)
    assert "\n" not in str(ended.value.code)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"--config=/no/where: No such file or directory"):
        parse("--config=/no/where")
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(SystemExit, match="is not UTF-8"):
        parse(f"--config={tmp_path / 'latin'}")


def test_a_variable_that_is_no_option_is_a_mistake() -> None:
    with pytest.raises(SystemExit) as ended:
        parse(HTTP_SECRETS="hush")
    line = "CYCLONE_SSE_HTTP_SECRETS: there is no such option; did you mean CYCLONE_SSE_HTTP_SECRET?"
    assert str(ended.value.code) == f"cyclone-sse: {line}"
    parse(WORKER="{}")  # how a worker knows that it is one


def test_what_kubernetes_says_of_its_services_is_no_option() -> None:
    address = "tcp://10.0.0.7:8888"
    options = parse(
        PORT=address,
        PORT_8888_TCP=address,
        PORT_8888_TCP_ADDR="10.0.0.7",
        PORT_8888_TCP_PORT="8888",
        PORT_8888_TCP_PROTO="tcp",
        SERVICE_HOST="10.0.0.7",
        SERVICE_PORT="8888",
        SERVICE_PORT_HTTP="8888",
        REDIS_PORT=address,
        REDIS_SERVICE_HOST="10.0.0.8",
        OTHER_PORT=address,
    )
    assert (options["port"], options["redis-port"]) == (8888, 6379)


@pytest.mark.parametrize(
    ("nodaemon", "argv", "pidfile"),
    [
        (True, ["twistd", "-n"], ""),
        (True, ["twistd", "-n", "--pidfile=twistd.pid"], "twistd.pid"),
        (False, ["twistd"], "twistd.pid"),
    ],
)
def test_in_the_foreground_there_is_no_pid_file_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch, nodaemon: bool, argv: list[str], pidfile: str
) -> None:
    monkeypatch.setattr("sys.argv", argv)
    options = Options({})
    options.parent = {"nodaemon": nodaemon, "pidfile": "twistd.pid"}
    options.parseOptions([])
    assert options.parent["pidfile"] == pidfile
