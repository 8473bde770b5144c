"""Settings of a small Django project; the last lines are for cyclone-sse."""

import os
from pathlib import Path

BASE = Path(__file__).resolve().parents[1]
MEDIA = Path(os.environ.get("SSE_MEDIA", BASE.parents[1] / "media"))  # where cyclone-sse.js is

SECRET_KEY = "for trying only"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "project.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASE = os.environ.get("DATABASE", BASE / "db.sqlite")
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE}}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "cyclone_sse_client.django",
    *("project", "chat", "notifications", "job", "table", "answer"),
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "project.views.stream_url",
            ]
        },
    }
]
STATIC_URL = "static/"
STATICFILES_DIRS = [MEDIA]
LOGIN_URL = "/"

CYCLONE_SSE = {
    "URL": os.environ.get("SSE_SERVER", "http://127.0.0.1:8888"),  # for this application
    "KEY": os.environ.get("SSE_KEY", "KEY"),
    "MAY_SUBSCRIBE": "project.views.may_subscribe",
}
SSE_URL = os.environ.get("SSE_URL", "")  # for browsers: behind a proxy "/sse/"; without one, see base.html
