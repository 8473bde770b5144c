"""`cyclone-sse publish` and `cyclone-sse token`, as far as they need no server."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest

from cyclone_sse.daemon.command_line import Options
from cyclone_sse.daemon.commands import find_secret, make_claims, print_token, publish_message
from cyclone_sse.options import with_defaults

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that the server's options are read from; this machine's own are out of the way."""
    variables: dict[str, str] = {}
    original = Options.__init__
    monkeypatch.setattr(Options, "__init__", lambda self: original(self, variables))
    return variables


def test_the_token_is_signed_with_the_secret_of_the_server(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    environment["CYCLONE_SSE_JWT_SECRET"] = SECRET
    print_token(["--sub=42", "--subscribe=user-42", "--subscribe", "news-*", "--expires=60"])
    claims = jwt.decode(capsys.readouterr().out.strip(), SECRET, algorithms=["HS256"])
    assert claims.pop("exp") > 0
    assert claims == {"sub": "42", "subscribe": ["user-42", "news-*"]}


@pytest.mark.parametrize("word", ["0", "-5", "inf", "nan", "x"])
def test_a_token_that_could_not_be_used_is_not_made(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        print_token([f"--jwt-secret={SECRET}", f"--expires={word}"])
    assert ended.value.code == 2
    assert "argument --expires: expected a number of seconds from 1" in capsys.readouterr().err


def test_the_secret_may_stand_in_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "sse.conf"
    config.write_text(f"jwt-secret={SECRET}\njwt-issuer=shop\njwt-audience=push\n")
    print_token([f"--config={config}", "--publish=*"])
    claims = jwt.decode(
        capsys.readouterr().out.strip(), SECRET, algorithms=["HS256"], audience="push", issuer="shop"
    )
    assert claims["publish"] == ["*"]


def test_of_several_secrets_the_first_signs(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_text(f"\n{SECRET}\nan older one\n")
    settings = with_defaults({"jwt-secret-file": str(path)})
    assert find_secret(settings, "jwt-secret") == SECRET
    assert find_secret(with_defaults({}), "jwt-secret") is None


def test_a_claim_that_was_not_asked_for_is_not_made() -> None:
    given = {"sub": None, "subscribe": None, "publish": ["a"], "expires": 10.0}
    assert make_claims(given, with_defaults({}), 1000.5) == {"publish": ["a"], "exp": 1010}


@pytest.mark.parametrize("words", [["--sub=42"], ["--jwt-secret=short"], ["--config=/none"]])
def test_without_a_good_secret_there_is_one_line(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        print_token(words)
    assert str(ended.value).startswith("cyclone-sse: ")
    assert "\n" not in str(ended.value)
    assert "short" not in str(ended.value)


@pytest.mark.parametrize("url", ["ftp://localhost", "localhost:8888", "http://", "http://localhost:x"])
def test_a_url_that_is_none_is_one_line(url: str) -> None:
    with pytest.raises(SystemExit) as ended:
        publish_message([f"--url={url}", "news", "hello"])
    assert str(ended.value).startswith(f"cyclone-sse: {url}: ")
