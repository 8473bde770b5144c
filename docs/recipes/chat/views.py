"""The chat: a page, what was said before, a line, and that a user is typing."""

from cyclone_sse_client.django import publish
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_POST

from chat.models import Line


@login_required
def room(request, name):
    """The page."""
    return render(request, "chat.html", {"room": name})


@login_required
def lines(request, name):
    """The last hundred lines of a room."""
    last = Line.objects.filter(room=name).select_related("author").order_by("-pk")[:100]
    return JsonResponse([line.as_json() for line in reversed(last)], safe=False)


@login_required
@require_POST
def say(request, name):
    """Keep a line, and publish it once it is kept."""
    line = Line.objects.create(room=name, author=request.user, text=request.POST["text"][:2000])
    publish(f"room-{name}", line.as_json())
    return HttpResponse(status=204)


@login_required
@require_POST
def typing(request, name):
    """Tell the others, not the sender; a client that reconnects later does not need it (ttl=0)."""
    who = request.user.username
    publish(f"room-{name}", who, event="typing", ttl=0, except_=request.POST["client"])
    return HttpResponse(status=204)


urlpatterns = [
    path("<slug:name>", room),
    path("<slug:name>/lines", lines),
    path("<slug:name>/say", say),
    path("<slug:name>/typing", typing),
]
