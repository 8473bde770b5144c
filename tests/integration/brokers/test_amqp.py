"""What only AMQP has: exchanges, queues, a specification file, and the script that publishes."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pika
import pytest

from tests.harness.clients import Subscriber, publish, request
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, until
from tests.harness.upstreams import EXCHANGE, RabbitUpstream
from tests.integration.brokers.test_faults import AWAY, BACK, FORM, wait_for
from tests.integration.conftest import Serve


def test_pub_py_reaches_an_event_source(serve: Serve, rabbit: RabbitUpstream) -> None:
    server = serve(*rabbit.options)
    env = {"AMQP_URL": f"amqp://guest:guest@127.0.0.1:{rabbit.server.port}/%2F"}
    with Subscriber(server.url, "base") as client:
        words = [sys.executable, "extras/pub.py", "base", '["é"]']
        subprocess.run(words, cwd=ROOT, env=env, check=True, capture_output=True, timeout=PATIENCE)
        assert client.event().data == '["é"]'
        with subprocess.Popen([*words[:3]], cwd=ROOT, env=env, stdout=subprocess.DEVNULL) as running:
            try:
                assert client.event().data.count(":") == 2
            finally:
                running.terminate()


def test_a_topic_exchange_takes_wildcards(serve: Serve, rabbit: RabbitUpstream) -> None:
    options = ["--amqp-exchange-type=topic", "--amqp-exchange-name=topics", "--http-publish=1"]
    server = serve(*rabbit.options, *options)
    with (
        Subscriber(server.url, "news.*") as star,
        Subscriber(server.url, "#") as everything,
        Subscriber(server.url, "news.sport") as plain,
    ):
        for key in ("news.sport", "news.sport.ball", "weather"):
            rabbit.channel().basic_publish("topics", key, key.encode())
        publish(server.url, "news.sport", "the end")
        assert star.data(2) == plain.data(2) == ["news.sport", "the end"]
        assert everything.data(4) == ["news.sport", "news.sport.ball", "weather", "the end"]


def test_a_fanout_exchange_sends_everything_everywhere(serve: Serve, rabbit: RabbitUpstream) -> None:
    server = serve(*rabbit.options, "--amqp-exchange-type=fanout", "--amqp-exchange-name=fanout")
    with Subscriber(server.url, "a") as a, Subscriber(server.url, "b") as b:
        rabbit.channel().basic_publish("fanout", "whatever", b"x")
        assert a.event().data == b.event().data == "x"


@pytest.mark.slow
def test_a_server_has_one_queue_that_is_gone_with_it(serve: Serve, rabbit: RabbitUpstream) -> None:
    before = rabbit.queues()
    server = serve(*rabbit.options, "--linger=0")
    with Subscriber(server.url, ["a", "b"]), Subscriber(server.url, ["b", "c"]):
        (queue,) = set(rabbit.queues()) - set(before)
        assert queue == "true\ttrue\t1"
        assert rabbit.subscriptions() == {"a", "b", "c"}
    until(lambda: rabbit.subscriptions() == set(), "no binding is left")
    server.stop()
    assert rabbit.queues() == before
    assert "client unexpectedly closed TCP connection" not in rabbit.server.log.rpartition("accepting")[2]


def test_overlapping_keys_are_one_event(serve: Serve, rabbit: RabbitUpstream) -> None:
    server = serve(*rabbit.options, "--amqp-exchange-type=topic", "--amqp-exchange-name=overlap")
    with Subscriber(server.url, ["news.#", "news.*", "*.sport", "news.sport"]) as client:
        for key in ("news.sport", "news.sport", "news.sport.ball", "news.tech"):
            rabbit.channel().basic_publish("overlap", key, key.encode())
        rabbit.channel().basic_publish("overlap", "news.end", b"end")
        data: list[str] = []
        while not data or data[-1] != "end":
            data.append(client.event().data)
        assert data == ["news.sport", "news.sport", "news.sport.ball", "news.tech", "end"]


def test_the_property_type_is_the_type_of_an_event(serve: Serve, rabbit: RabbitUpstream) -> None:
    server = serve(*rabbit.options)
    with Subscriber(server.url, "base") as client:
        for kind in ("pr\u00edce", "two\nlines", "sse-gap", None):
            properties = pika.BasicProperties(type=kind, headers={"list": [1, "two"]})
            rabbit.channel().basic_publish(EXCHANGE, "base", b"x", properties)
        assert [event.type for event in client.events(4)] == ["pr\u00edce", "message", "message", "message"]


def test_types_travel_in_both_directions(serve: Serve, rabbit: RabbitUpstream) -> None:
    server = serve(*rabbit.options, "--http-publish=1")
    channel = rabbit.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, EXCHANGE, "base")
    with Subscriber(server.url, "base") as client:
        headers = {"list": [1, "two"]}
        channel.basic_publish(
            EXCHANGE, "base", b"1", pika.BasicProperties(type="pr\u00edce", headers=headers)
        )
        answer = request("POST", f"{server.url}/publish", "channel=base&message=2&event=stock", FORM)
        assert answer.status == 200
        assert [(event.type, event.data) for event in client.events(2)] == [
            ("pr\u00edce", "1"),
            ("stock", "2"),
        ]
    got = [next(channel.consume(queue, auto_ack=True))[1].type for _ in range(2)]
    assert got == ["pr\u00edce", "stock"]
    channel.cancel()
    refused = request("POST", f"{server.url}/publish", "channel=base&message=2&retry=5", FORM)
    assert (refused.status, "retry" in refused.json["reason"]) == (400, True)


@pytest.mark.slow
def test_what_rabbitmq_forbids_is_refused_and_affects_no_other_client(
    serve: Serve, rabbit: RabbitUpstream
) -> None:
    control = rabbit.server.control
    control("add_user", "limited", "secret")
    try:
        control(
            "set_permissions", "limited", "topics2.*|amq.gen.*", "topics2.*|amq.gen.*", "topics2.*|amq.gen.*"
        )
        control("set_topic_permissions", "limited", "topics2", ".*", "^allowed\\..*")
        options = ["--amqp-username=limited", "--amqp-password=secret"]
        options += ["--amqp-exchange-type=topic", "--amqp-exchange-name=topics2"]
        server = serve(*rabbit.options, *options)
        with Subscriber(server.url, "allowed.a") as client:
            answer = request("GET", f"{server.url}/?channels=forbidden&channels=allowed.b")
            assert (answer.status, "'forbidden'" in answer.json["reason"]) == (403, True)
            with Subscriber(server.url, "allowed.c") as other:
                for key in ("allowed.a", "allowed.c"):
                    rabbit.channel().basic_publish("topics2", key, b"x")
                assert client.event().data == other.event().data == "x"
        assert AWAY not in server.log
    finally:
        control("delete_user", "limited")


def test_headers_of_every_type_do_no_harm(serve: Serve, rabbit: RabbitUpstream) -> None:
    server = serve(*rabbit.options)
    headers = {
        "text": "é",
        "number": 1,
        "large": 1 << 40,
        "flag": True,
        "nothing": None,
        "list": [1, "two"],
        "table": {"a": 1},
        "time": datetime.datetime(2026, 1, 1),
    }
    with Subscriber(server.url, "base") as client:
        for some in [{name: value} for name, value in headers.items()] + [headers]:
            properties = pika.BasicProperties(content_type="text/plain", headers=some, delivery_mode=2)
            rabbit.channel().basic_publish(EXCHANGE, "base", str(some).encode(), properties)
            assert client.event().data == str(some)
    assert AWAY not in server.log


def test_a_name_that_amqp_cannot_carry_affects_no_other_channel(serve: Serve, rabbit: RabbitUpstream) -> None:
    server = serve(*rabbit.options, "--http-publish=1")
    longest, too_long = "é" * 127 + "x", "é" * 128
    with Subscriber(server.url, longest) as client:
        assert request("GET", f"{server.url}/?channels={quote(too_long)}").status == 400
        publish(server.url, longest, "here")
        assert client.event().data == "here"
        answer = request("POST", f"{server.url}/publish", f"channel={'x' * 256}&message=x", FORM)
        assert answer.status == 400
        assert "longer than 255 bytes" in answer.json["reason"]
    assert AWAY not in server.log


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--amqp-vhost=/nowhere"], "/nowhere"),
        (["--amqp-username=unknown"], "wrong user name or password?"),
        (["--amqp-exchange-name=amq.direct", "--amqp-exchange-type=topic"], "inequivalent arg 'type'"),
    ],
)
def test_what_rabbitmq_says_is_in_the_log(
    serve: Serve, rabbit: RabbitUpstream, options: list[str], reason: str
) -> None:
    server = serve(*rabbit.options, *options)
    wait_for(server, "refused by RabbitMQ")
    assert reason in server.log


def test_the_channel_number_and_no_heartbeat_can_be_chosen(serve: Serve, rabbit: RabbitUpstream) -> None:
    server = serve(*rabbit.options, "--amqp-channel=7", "--amqp-heartbeat=0", "--http-publish=1")
    with Subscriber(server.url, "base") as client:
        publish(server.url, "base", "x")
        assert client.event().data == "x"
        channels = rabbit.server.listed("list_channels", "number", "consumer_count")
        assert {"7\t0", "7\t1"} <= set(channels.splitlines())


def test_an_error_on_the_channel_starts_all_over(serve: Serve, rabbit: RabbitUpstream) -> None:
    server = serve(*rabbit.options, "--amqp-exchange-name=short-lived", "--http-publish=1")
    with Subscriber(server.url, "a") as client:
        publish(server.url, "a", "before")
        assert client.event().data == "before"
        rabbit.channel().exchange_delete("short-lived")
        answer = request("POST", f"{server.url}/publish", "channel=a&message=x", FORM)
        assert answer.status == 503
        with Subscriber(server.url, "b") as new:  # binding its queue is the error
            wait_for(server, AWAY)
            wait_for(server, BACK)
            assert "NOT_FOUND - no exchange 'short-lived'" in server.log
            assert client.event().type == "sse-gap"
            publish(server.url, ["a", "b"], "after")
            assert client.event().data == new.event().data == "after"


def test_a_specification_of_amqp_0_8_as_users_of_0_7_7_have_it(
    serve: Serve, rabbit: RabbitUpstream, tmp_path: Path
) -> None:
    text = (ROOT / "cyclone_sse" / "brokers" / "amqp0-9.xml").read_text()
    text = text[: text.index('<class name="confirm"')] + "</amqp>"
    blocked, after = text.index('<method name="blocked"'), text.index('<class name="channel"')
    text = text[:blocked] + "</class>" + text[after:]
    # Where 0-8 differs in what is used here.
    consume = text.index('<method name="consume"')
    end = text.index("</method>", consume)
    arguments = '<field name="arguments" type="table"/>'
    text = text[:consume] + text[consume:end].replace(arguments, "") + text[end:]
    for new, old in [
        ('<method name="close" index="50"', '<method name="close" index="60"'),
        ('<method name="close-ok" index="51"', '<method name="close-ok" index="61"'),
        ('major="0" minor="9"', 'major="8" minor="0"'),
        ('<field name="reserved-1" type="longstr"/>', "(no fields)"),
        ('name="reserved-1" type="short"', 'name="ticket" type="short"'),
        ('name="reserved-2" type="bit"', 'name="insist" type="bit"'),
    ]:
        assert new in text
        text = text.replace(new, old)
    (tmp_path / "rabbit.xml").write_text(text)
    server = serve(*rabbit.options, "--amqp-spec=rabbit.xml", "--http-publish=1", cwd=tmp_path)
    with Subscriber(server.url, ["base", "grüße"]) as client:
        rabbit.publish("base", "x")
        publish(server.url, "grüße", "é")
        assert sorted(client.data(2)) == ["x", "é"]
    connections = rabbit.server.listed("list_connections", "protocol")
    assert "{0,8,0}" in connections


@pytest.mark.parametrize("content", [None, "no XML", "<amqp major='0' minor='9'/>", "<other/>"])
def test_a_specification_that_is_none_is_one_line(serve: Serve, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "bad.xml").write_text(content)
    with pytest.raises(AssertionError) as failed:
        serve("--broker=amqp", "--amqp-spec=bad.xml", cwd=tmp_path)
    assert "ended at start with 1" in str(failed.value)
    assert "bad.xml is not an AMQP specification" in str(failed.value)
    assert "Traceback" not in str(failed.value)


def test_what_rabbitmq_cannot_store_is_a_503(serve: Serve, rabbit: RabbitUpstream) -> None:
    """Short of memory it stops to read from those who publish; who subscribes goes on."""
    server = serve(*rabbit.options, "--http-publish=1")
    with Subscriber(server.url, "base") as client:
        publish(server.url, "base", "before")
        assert client.event().data == "before"
        rabbit.server.control("set_vm_memory_high_watermark", "0.00000001")
        try:
            answer = request("POST", f"{server.url}/publish", "channel=base&message=x", FORM)
            assert (answer.status, AWAY in server.log) == (503, False)
            with Subscriber(server.url, "new"):
                until(lambda: "new" in rabbit.subscriptions(), "a new channel is subscribed")
        finally:
            rabbit.server.control("set_vm_memory_high_watermark", "0.6")
        until(lambda: request("POST", f"{server.url}/publish", "channel=base&message=y", FORM).status == 200)
        got = [client.event().data]
        while got[-1] != "y":
            got.append(client.event().data)


def test_a_full_queue_that_rejects_a_message_is_a_503_that_may_be_published(
    serve: Serve, rabbit: RabbitUpstream
) -> None:
    server = serve(*rabbit.options, "--http-publish=1", "--amqp-exchange-name=rejected")
    full = rabbit.channel().queue_declare(
        "full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    try:
        with Subscriber(server.url, ["base", "other"]) as client:
            rabbit.channel().queue_bind(full.method.queue, "rejected", "base")
            publish(server.url, "base", "1")
            for _ in range(2):
                answer = request(
                    "POST",
                    f"{server.url}/publish",
                    "channel=base&message=2",
                    {**FORM, "Idempotency-Key": "k"},
                )
                assert (answer.status, answer.json["published"]) == (503, "unknown")
            publish(server.url, "other", "3")
            assert client.data(3) == ["1", "2", "3"]  # our queue had room
        assert "RabbitMQ rejected the message, maybe because a queue is full" in server.log
        assert AWAY not in server.log
    finally:
        rabbit.channel().queue_delete("full")
