"""Log in by a name, and decide who may subscribe."""

import re

from django.conf import settings
from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

# All other names are refused, also patterns such as room-*, which would be the messages of all rooms.
SHARED = re.compile(r"table|(room|job|answer)-[\w-]+")


def index(request):
    """The list of recipes, or a form to log in: any name will do, for trying only."""
    if request.method == "POST" and (name := request.POST["name"].strip()):
        login(request, User.objects.get_or_create(username=name)[0])
        return redirect("/")
    return render(request, "index.html")


@require_POST
def leave(request):
    """Log out: the streams of the user end."""
    logout(request)
    return redirect("/")


def may_subscribe(request, channels):
    """Allow a user the channel of the user, the table, and all rooms, jobs and answers; others nothing."""
    user = request.user
    if not user.is_authenticated:
        return False
    allowed = [name for name in channels if name == f"user-{user.pk}" or SHARED.fullmatch(name)]
    return {"channels": allowed, "info": {"name": user.username}}


def stream_url(request):
    """The address of the streams, for all pages."""
    return {"sse_url": settings.SSE_URL}
