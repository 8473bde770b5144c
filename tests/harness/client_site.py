"""A Django project that uses cyclone_sse_client, from what clients/python/README.md shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.harness.docs import write_shown
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT
from tests.harness.sites import USERS, Site

PAGE = "clients/python/README.md"
_SETTINGS = """
import os

SECRET_KEY = "of this test alone"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
DEBUG = True  # so that it logs to the console
USE_TZ = True
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SHOP_DATABASE"]}}
"""
_MORE_SETTINGS = """
CYCLONE_SSE |= {
    "URL": os.environ["PUSH_URL"],
    "JWT_SECRET": "0123456789abcdef0123456789abcdef",
    "CHANNELS": lambda request: [f"user-{request.user.pk}", "front"],
    "PATIENCE": 1,
}
"""
_VIEWS = """
import datetime
from decimal import Decimal

from cyclone_sse_client.django import disconnect, presence, publish, publish_now, state
from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpResponse
from django.template import Context, Template
from django.utils.translation import gettext_lazy


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
        message = {
            "total": Decimal("9.90"),
            "at": datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc),
            "text": gettext_lazy("paid"),
        }
        publish(f"user-{request.user.pk}", message)
        message["text"] = "changed later"
        if "fail" in request.GET:
            raise RuntimeError("the payment did not succeed")
    return HttpResponse("paid")


def end(request):
    disconnect(user=request.user)
    return HttpResponse("ended")


def now(request):
    return HttpResponse(publish_now("front", "now").id)


def ask(request):
    return HttpResponse(f"{presence('room-tea')['members']} {state('front')}")


def page(request):
    text = "{% load cyclone_sse %}{% sse_token %}"
    return HttpResponse(Template(text).render(Context({"request": request})))
"""
_URLS = """
from shop import views
from shop.token import push_token

urlpatterns += [
    path("login", views.log_in),
    path("logout", views.log_out),
    path("join", views.join),
    path("pay", views.pay),
    path("end", views.end),
    path("now", views.now),
    path("ask", views.ask),
    path("page", views.page),
    path("push/token", push_token),
]
"""


class ClientSite(Site):
    """The project, with two users (ann, bob); `python` may be that of another environment."""

    name = "django"

    def __init__(
        self, directory: Path, push_url: str, port: int | None = None, python: Path | None = None
    ) -> None:
        super().__init__(directory, push_url, port)
        self.python = str(python or sys.executable)
        package = directory / "shop"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "views.py").write_text(_VIEWS)
        for name in ("shop/push.py", "shop/token.py"):
            write_shown(PAGE, name, directory)
        for name, before, after in (("settings.py", _SETTINGS, _MORE_SETTINGS), ("urls.py", "", _URLS)):
            path = write_shown(PAGE, name, package)
            path.write_text(before + path.read_text() + after)
        self.env |= {
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "SHOP_DATABASE": str(directory / "shop.sqlite"),
            "PYTHONPATH": f"{directory}:" + ("" if python else str(ROOT / "clients" / "python")),
        }
        self.run("-c", USERS)

    def run(self, *words: str) -> str:
        """Run Python with the project's settings; returns what it prints."""
        done = subprocess.run(
            [self.python, *words],
            cwd=self.directory,
            env=os.environ | self.env,
            capture_output=True,
            check=False,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def argv(self) -> list[str]:
        return [self.python, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{self.port}"]
