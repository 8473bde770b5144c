"""Which client each rule allows."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from cyclone_sse.access.grant import PUBLISH_EVERYWHERE, Grant
from cyclone_sse.access.rules import Rules, has_rules, make_rules, rules_of
from cyclone_sse.brokers import HttpBroker
from cyclone_sse.errors import Refusal
from tests.unit.access.fakes import FakeTokens, request
from tests.unit.access.keys import SECRET, token

SOON = int(time.time()) + 86_400
GOOD = token(sub="42", subscribe=["user-42", "news.*"], publish=["chat"], exp=SOON)
BAD = token("another secret that is as long as a hash of SHA-512 is, and then some")


def rules(**settings: Any) -> Rules:
    return Rules({name.replace("_", "-"): value for name, value in settings.items()}, Clock())


def refused(call: Any, *args: Any) -> Refusal:
    with pytest.raises(Refusal) as raised:
        call(*args)
    return raised.value


def test_without_a_rule_every_channel_is_public() -> None:
    assert rules().subscriber(request(Authorization=f"Bearer {BAD}"), ["anything"]) is None
    assert rules(public=("a",)).subscriber(request(), ["b"]) is None


@pytest.mark.parametrize(
    "where",
    [
        {"Authorization": f"Bearer {GOOD}"},
        {"Authorization": f"bearer   {GOOD}"},
        {"Cookie": f"cyclone_sse_token={GOOD}"},
        {"Cookie": f'a=b; x="; cyclone_sse_token="{GOOD}"; cyclone_sse_token={BAD}'},
        {"access_token": GOOD},
        {"Authorization": f"Bearer {GOOD}", "Cookie": f"cyclone_sse_token={BAD}", "access_token": BAD},
        {"Authorization": "Basic eDp5", "Cookie": f"cyclone_sse_token={GOOD}", "access_token": BAD},
    ],
)
def test_a_token_comes_in_one_of_three_ways_and_in_their_order(where: dict[str, str]) -> None:
    grant = rules(jwt_secret=SECRET).subscriber(request(**where), ["user-42", "news.de"])
    assert grant == Grant("42", ("user-42", "news.de"), (), SOON)


def test_the_cookie_has_the_name_that_it_is_given() -> None:
    named = rules(jwt_secret=SECRET, jwt_cookie="push")
    assert named.subscriber(request(Cookie=f"push={GOOD}"), ["user-42"])
    assert refused(named.subscriber, request(Cookie=f"cyclone_sse_token={GOOD}"), ["user-42"]).status == 401


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"access_token": BAD},
        {"Cookie": f"cyclone_sse_token={BAD}"},
        {"Authorization": f"Bearer {BAD}", "access_token": GOOD},
        {"Authorization": "Bearer", "Cookie": "cyclone_sse_token="},
        {"access_token": ""},
    ],
)
def test_without_a_good_token_it_is_401(where: dict[str, str]) -> None:
    no = refused(rules(jwt_secret=SECRET).subscriber, request(**where), ["user-42"])
    assert no.status == 401
    assert no.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_a_channel_that_is_not_allowed_is_named() -> None:
    no = refused(
        rules(jwt_secret=SECRET).subscriber, request(access_token=GOOD), ["user-42", "user-43", "news.de"]
    )
    assert no.status == 403
    assert "'user-43'" in no.reason
    assert "insufficient_scope" in no.headers["WWW-Authenticate"]


@pytest.mark.parametrize(("pattern", "status"), [("news.*", 200), ("*", 403), ("news*", 403)])
def test_a_pattern_must_be_in_the_token_as_it_is(pattern: str, status: int) -> None:
    guarded = rules(jwt_secret=SECRET)
    if status == 200:
        assert guarded.subscriber(request(access_token=GOOD), [pattern])
    else:
        assert refused(guarded.subscriber, request(access_token=GOOD), [pattern]).status == status


def test_what_is_public_needs_nothing_and_ends_with_nothing() -> None:
    guarded = rules(jwt_secret=SECRET, public=("news.*", "front"))
    for where in ({}, {"access_token": BAD}):
        assert guarded.subscriber(request(**where), ["front", "news.de"]) == Grant(None, ("front", "news.de"))
    # A client with a token can be found by POST /disconnect; the right to what is public does not end.
    assert guarded.subscriber(request(access_token=GOOD), ["front"]) == Grant("42", ("front",))
    mixed = guarded.subscriber(request(access_token=GOOD), ["front", "user-42"])
    assert mixed == Grant("42", ("front", "user-42"), (), SOON)
    assert refused(guarded.subscriber, request(), ["front", "user-42"]).status == 401
    assert refused(guarded.subscriber, request(), ["news*"]).status == 401


class FakeApplication:
    """Notes what it is asked, and grants what the test says."""

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.asked: list[list[str]] = []

    def ask(self, caller: Any, channels: list[str]) -> Deferred[Grant]:
        self.asked.append(channels)
        d: Deferred[Grant] = Deferred()
        d.callback(self.grant)
        return d


def asking(grant: Grant, **settings: Any) -> tuple[Rules, FakeApplication]:
    guarded = rules(auth_url="http://127.0.0.1:1/", **settings)
    application = guarded._auth_url = FakeApplication(grant)  # type: ignore[assignment]
    return guarded, application


def outcome(guarded: Rules, given: Any, *channels: str) -> Any:
    answer = guarded.subscriber(given, channels)
    if not isinstance(answer, Deferred):
        return answer
    results: list[Any] = []
    answer.addBoth(results.append)
    return results[0]


def test_the_application_is_asked_for_what_is_not_public() -> None:
    guarded, application = asking(Grant("42", ("user-42",), (), SOON), public=("front",))
    assert outcome(guarded, request(), "front") == Grant(None, ("front",))
    assert application.asked == []
    assert outcome(guarded, request(), "front", "user-42") == Grant("42", ("front", "user-42"), (), SOON)
    assert application.asked == [["user-42"]]


@pytest.mark.parametrize(("settings", "status"), [({}, 403), ({"patterns": True}, None)])
def test_the_application_is_asked_about_patterns_only_where_they_are_enabled(
    settings: dict[str, Any], status: int | None
) -> None:
    given = {"auth-url": "http://127.0.0.1:1/", "public": ("news.*",), **settings}
    guarded = Rules(given, Clock(), lambda name: "*" in name)
    application = guarded._auth_url = FakeApplication(Grant("42", ("room-*", "room-7")))  # type: ignore[assignment]
    assert outcome(guarded, request(), "room-7", "news.*").subscribe == ("room-7", "news.*")
    if status is None:
        assert outcome(guarded, request(), "room-7", "room-*").subscribe == ("room-7", "room-*")
    else:
        no = refused(guarded.subscriber, request(), ["room-7", "room-*"])
        assert (no.status, "'room-*' is a pattern" in no.reason) == (status, True)
    assert application.asked == [["room-7"], *([["room-7", "room-*"]] if status is None else [])]


def test_info_comes_along() -> None:
    guarded, _ = asking(Grant("42", ("user-42",), info="[1]"), public=("front",))
    assert outcome(guarded, request(), "user-42").info == "[1]"
    with_info = token(sub="42", subscribe=["*"], info={"name": "Ann"})
    for settings in ({}, {"public": ("*",)}):
        by_token = rules(jwt_secret=SECRET, **settings).subscriber(request(with_info), ["a"])
        assert isinstance(by_token, Grant)
        assert by_token.info == '{"name":"Ann"}'


def test_the_application_may_narrow() -> None:
    guarded, _ = asking(Grant("42", ("user-42", "room-*")), public=("front",))
    assert outcome(guarded, request(), "user-42", "user-43", "room-1").subscribe == ("user-42", "room-1")
    assert outcome(guarded, request(), "front", "user-43").subscribe == ("front",)
    no = outcome(guarded, request(), "user-43", "user-44").value
    assert (no.status, "user-43" in no.reason) == (403, True)


def test_with_both_a_token_decides_where_there_is_one() -> None:
    guarded, application = asking(Grant("7", ("user-7",)), jwt_secret=SECRET)
    assert guarded.subscriber(request(access_token=GOOD), ["user-42"])
    assert refused(guarded.subscriber, request(access_token=GOOD), ["user-7"]).status == 403
    assert application.asked == []
    assert outcome(guarded, request(), "user-7").user == "7"


@pytest.mark.parametrize(
    "where",
    [
        {"access_token": BAD},
        {"Cookie": f"cyclone_sse_token={BAD}"},
        {"Authorization": "Bearer of-the-application"},
        {"Authorization": f"Bearer {token(exp=1)}"},
    ],
)
def test_a_token_that_is_not_for_this_server_is_left_to_the_application(where: dict[str, str]) -> None:
    guarded, application = asking(Grant("7", ("user-7",)), jwt_secret=SECRET)
    assert outcome(guarded, request(**where), "user-7").user == "7"
    assert application.asked == [["user-7"]]


def test_a_good_cookie_counts_beside_the_application_s_own_bearer() -> None:
    guarded, application = asking(Grant("7", ("user-7",)), jwt_secret=SECRET)
    both = request(Authorization="Bearer of-the-application", Cookie=f"cyclone_sse_token={GOOD}")
    assert outcome(guarded, both, "user-42").user == "42"
    assert application.asked == []


@pytest.mark.parametrize(
    ("given", "key", "allowed"),
    [
        ({}, "sécret", True),
        ({"Authorization": "Bearer " + "sécret".encode().decode("latin-1")}, "", True),
        ({}, "", False),
        ({}, "wrong", False),
        ({}, "\ud800", False),
        ({"Authorization": "Bearer wrong"}, "", False),
        ({"Authorization": "Basic sécret"}, "", False),
        ({"access_token": "sécret"}, "", False),
        ({"Origin": "https://evil.example"}, "sécret", True),
    ],
)
def test_publishing_with_a_key(given: dict[str, str], key: str, allowed: bool) -> None:
    if allowed:
        assert rules().publisher(request(**given), key, "sécret") == PUBLISH_EVERYWHERE
    else:
        no = refused(rules().publisher, request(**given), key, "sécret")
        assert no.status == 401
        assert "WWW-Authenticate" in no.headers


def test_publishing_with_a_token_takes_the_header_only() -> None:
    guarded = rules(jwt_secret=SECRET)
    grant = guarded.publisher(request(Authorization=f"Bearer {GOOD}"), "", "")
    assert grant.may_publish("chat")
    assert not grant.may_publish("user-42")
    for given in ({}, {"access_token": GOOD}, {"Cookie": f"cyclone_sse_token={GOOD}"}):
        assert refused(guarded.publisher, request(**given), GOOD, "").status == 401
    assert refused(guarded.publisher, request(Authorization=f"Bearer {BAD}"), "", "").status == 401
    assert guarded.publisher(request(), "key", "key") == PUBLISH_EVERYWHERE


def test_a_page_of_another_site_may_not_publish() -> None:
    page = request(Origin="https://evil.example", Host="push.example")
    assert refused(rules().publisher, page, "", "").status == 403
    allowed = rules(cors_origin=("https://evil.example",))
    assert allowed.publisher(page, "", "") == PUBLISH_EVERYWHERE
    assert rules().publisher(page, "k", "k") == PUBLISH_EVERYWHERE, "it knows the key"


def test_where_channels_are_private_publishing_needs_a_key() -> None:
    asking_only = rules(auth_url="http://127.0.0.1:1/")
    assert asking_only.refuse_publishers
    no = refused(asking_only.publisher, request(), "", "")
    assert no.status == 403
    assert "--http-secret" in no.reason
    explicit = rules(auth_url="http://127.0.0.1:1/", http_publish=True)
    assert explicit.publisher(request(), "", "") == PUBLISH_EVERYWHERE
    assert (
        refused(rules(auth_url="http://127.0.0.1:1/", http_secret="k").publisher, request(), "", "k").status
        == 401
    )
    # A key of a custom handler's own counts, too.
    assert asking_only.publisher(request(), "k", "k") == PUBLISH_EVERYWHERE


def test_each_key_of_a_file_is_valid_and_it_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("new\nold\n")
    guarded = rules(http_secret_file=str(file))
    assert guarded.know_publishers
    assert not guarded.restrict
    assert guarded.publisher_key() == "new"
    for key in ("new", "old", "also"):
        assert guarded.publisher(request(), key, "also") == PUBLISH_EVERYWHERE
        assert guarded.publisher(request(Authorization=f"Bearer {key}"), "", "also") == PUBLISH_EVERYWHERE
    assert refused(guarded.publisher, request(), "x", "").status == 401
    file.write_text("new\n")
    guarded.reload()
    assert refused(guarded.publisher, request(), "old", "").status == 401
    file.write_text("")
    with pytest.raises(ValueError, match="--http-secret-file"):
        guarded.reload()
    assert guarded.publisher(request(), "new", "") == PUBLISH_EVERYWHERE


def test_all_problems_of_files_are_told(tmp_path: Path) -> None:
    for name in ("keys", "secrets"):
        (tmp_path / name).write_text("x" * 32)
    guarded = rules(http_secret_file=str(tmp_path / "keys"), jwt_secret_file=str(tmp_path / "secrets"))
    (tmp_path / "keys").unlink()
    (tmp_path / "secrets").write_text("short")
    with pytest.raises(ValueError, match=r"--http-secret-file=.*; --jwt-secret-file="):
        guarded.reload()


def test_a_client_waits_for_the_key_of_its_token() -> None:
    guarded = rules(jwt_secret=SECRET)
    assert guarded._tokens is not None
    tokens = FakeTokens(guarded._tokens)
    guarded._tokens = tokens  # type: ignore[assignment]
    guarded.may_miss_keys = True
    answer = guarded.subscriber(request(access_token=GOOD), ["user-42"])
    assert isinstance(answer, Deferred)
    results: list[Any] = []
    answer.addBoth(results.append)
    assert results == []
    waiting, tokens.waiting = tokens.waiting, None
    assert waiting is not None
    waiting.callback(None)
    assert results == [Grant("42", ("user-42",), (), SOON)]


def test_without_any_key_yet_the_client_is_told_to_try_again() -> None:
    guarded = rules(jwt_secret=SECRET)
    assert guarded._tokens is not None
    tokens = FakeTokens(guarded._tokens)
    guarded._tokens = tokens  # type: ignore[assignment]
    no = refused(guarded.publisher, request(Authorization=f"Bearer {GOOD}"), "", "")
    assert no.status == 503
    assert int(no.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("channels", "wildcards", "is_too_much"),
    [
        (["a"] * 4, "", True),
        (["a"] * 3, "", False),
        (["*"] * 3, "", False),
        (["a#", "*"], "*#", False),
        (["a#", "*", "b*"], "*#", True),
    ],
)
def test_one_stream_has_its_bounds(channels: list[str], wildcards: str, is_too_much: bool) -> None:
    settings = {"max-channels": 3, "max-patterns": 2}
    bounded = Rules(settings, Clock(), lambda name: not set(name).isdisjoint(wildcards))
    if is_too_much:
        assert refused(bounded.check_names, channels).status == 400
    else:
        bounded.check_names(channels)


@pytest.mark.parametrize(
    ("channel", "open_patterns", "settings", "is_allowed"),
    [
        ("a", False, {}, True),
        ("a*", False, {}, False),
        ("a*", True, {}, True),
        ("a*", False, {"patterns": True}, True),
    ],
)
def test_without_a_rule_patterns_must_be_enabled(
    channel: str, open_patterns: bool, settings: dict[str, Any], is_allowed: bool
) -> None:
    open_to_all = Rules(settings, Clock(), lambda name: "*" in name, open_patterns)
    if is_allowed:
        assert open_to_all.subscriber(request(), ["b", channel]) is None
    else:
        no = refused(open_to_all.subscriber, request(), ["b", channel])
        assert (no.status, "'a*' is a pattern" in no.reason, "--patterns=1" in no.reason) == (403, True, True)


def test_a_long_name_is_refused_before_it_is_taken_for_a_pattern() -> None:
    def is_pattern(name: str) -> bool:
        raise AssertionError

    assert refused(Rules({}, is_pattern=is_pattern).check_names, ["*[^a]" * 3000]).status == 400


def test_a_pattern_of_amqp_must_be_in_the_token_as_it_is() -> None:
    guarded = Rules({"jwt-secret": SECRET, "public": ("front.*",)}, Clock(), lambda name: "#" in name)
    assert guarded.subscriber(request(access_token=GOOD), ["news.de", "front.de"])
    for name in ("news.#", "front.#"):
        assert refused(guarded.subscriber, request(access_token=GOOD), [name]).status == 403


def test_an_application_gets_the_rules_of_its_broker_s_settings() -> None:
    broker = HttpBroker({"jwt-secret": SECRET}, Clock())
    application = SimpleNamespace(broker=broker)
    assert not has_rules(application)
    application.rules = make_rules(broker)
    assert has_rules(application)
    assert rules_of(application).restrict
    assert rules_of(application) is application.rules
    rules_of(application).start()
    rules_of(application).reload()
    rules_of(application).stop()
