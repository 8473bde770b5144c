"""Applications that the daemon asks, and that publish to it: real ones, from what the documentation shows."""

from __future__ import annotations

import http.cookiejar
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

from tests.harness.docs import write_shown
from tests.harness.patience import PATIENCE
from tests.harness.process import Process, accepts, free_port, need

_SETTINGS = """
import os

SECRET_KEY = "of this test alone"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
DEBUG = True  # so that it logs to the console
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "shop.apps.Shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SHOP_DATABASE"]}}
USE_TZ = True
PUSH_URL = os.environ["PUSH_URL"]
PUSH_KEY = "KEY"
"""
_APPS = """
from django.apps import AppConfig


class Shop(AppConfig):
    name = "shop"

    def ready(self):
        from . import push
"""
_URLS = """
from decimal import Decimal

from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpResponse
from django.urls import path

from . import push
from .tokens import token_for
from .behind_nginx import may_hear_behind_nginx
from .views import may_hear


def log_in(request):
    login(request, authenticate(username=request.GET["name"], password="secret"))
    return HttpResponse(str(request.user.pk))


def log_out(request):
    logout(request)
    return HttpResponse("bye")


def join(request):
    request.user.groups.add(Group.objects.get_or_create(name=request.GET["room"])[0])
    return HttpResponse("joined")


def pay(request):
    with transaction.atomic():
        push.publish(f"user-{request.user.pk}", {"paid": Decimal(request.GET["order"])})
        if "fail" in request.GET:
            raise RuntimeError("the payment did not succeed")
    return HttpResponse("paid")


def page(request):
    answer = HttpResponse("the page")
    token = token_for(request.user.pk, [f"user-{request.user.pk}"], request.GET["secret"])
    answer.set_cookie("cyclone_sse_token", token, httponly=True, samesite="Lax")
    return answer


urlpatterns = [
    path("push/auth", may_hear),
    path("push/nginx", may_hear_behind_nginx),
    path("login", log_in),
    path("logout", log_out),
    path("join", join),
    path("pay", pay),
    path("page", page),
]
"""
USERS = """
import django

django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command

call_command("migrate", verbosity=0)
for name in ("ann", "bob"):
    User.objects.create_user(name, password="secret")
"""


class Site(Process):
    """Something with pages, on a free port of its own. push_url: where the daemon is."""

    def __init__(self, directory: Path, push_url: str, port: int | None = None) -> None:
        self.port = port or free_port()
        env = {"PUSH_URL": push_url, "PUSH_KEY": "KEY", "PYTHONUNBUFFERED": "1"}
        super().__init__(directory, env=env, cwd=directory)

    def is_ready(self) -> bool:
        return accepts(self.port)

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"


class DjangoSite(Site):
    """A Django project with sessions, two users (ann, bob), and the modules of the documentation."""

    name = "django"

    def __init__(self, directory: Path, push_url: str, port: int | None = None, settings: str = "") -> None:
        super().__init__(directory, push_url, port)
        package = directory / "shop"
        package.mkdir()
        for name, text in {
            "__init__": "",
            "settings": _SETTINGS + settings,
            "apps": _APPS,
            "urls": _URLS,
        }.items():
            (package / f"{name}.py").write_text(text)
        for name in ("views.py", "push.py", "tokens.py", "behind_nginx.py"):
            write_shown("access.md", name, package)
        self.env |= {
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "SHOP_DATABASE": str(directory / "shop.sqlite"),
        }
        self.env["PYTHONPATH"] = str(directory)
        command = [sys.executable, "-c", USERS]
        subprocess.run(command, cwd=directory, env=os.environ | self.env, check=True, timeout=PATIENCE)

    def argv(self) -> list[str]:
        return [sys.executable, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{self.port}"]


class PhpSite(Site):
    """PHP's own web server with the pages of the documentation, and one that logs in."""

    name = "php"

    def __init__(self, directory: Path, push_url: str, flags: Sequence[str] = ()) -> None:
        super().__init__(directory, push_url)
        self.program = need("php")
        self.flags = flags
        for name in ("auth.php", "push.php"):
            write_shown("access.md", name, directory, "php")
        (directory / "login.php").write_text(
            "<?php session_start(); $_SESSION['user'] = (int) $_GET['user']; $_SESSION['rooms'] = ['1'];"
        )
        (directory / "say.php").write_text(
            "<?php require 'push.php'; echo push($_GET['to'], ['text' => $_GET['text']]) ? 'sent' : 'failed';"
        )
        (directory / "sessions").mkdir()

    def argv(self) -> list[str]:
        sessions = f"session.save_path={self.directory}/sessions"
        return [
            self.program,
            *self.flags,
            "-d",
            sessions,
            "-S",
            f"127.0.0.1:{self.port}",
            "-t",
            str(self.directory),
        ]


class Browser:
    """A user with cookies, at one site."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._jar = http.cookiejar.CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self._jar))

    def get(self, path: str, **query: str) -> tuple[int, str]:
        """Status and body of a page."""
        try:
            with self._opener.open(f"{self._url}{path}?{urlencode(query)}", timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    @property
    def cookies(self) -> dict[str, str]:
        """As headers of a request."""
        return {"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._jar)}
