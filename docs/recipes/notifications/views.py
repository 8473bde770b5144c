"""Notifications: the state of a user's channel is the unread count and the newest notes."""

from cyclone_sse_client.django import publish_now
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path
from django.views.decorators.http import require_POST

from notifications.models import Note


def summary(user):
    """What the page shows."""
    unread = Note.objects.filter(user=user, read=False)
    newest = list(unread.order_by("-pk").values_list("text", flat=True)[:5])
    return {"unread": unread.count(), "newest": newest}


def tell(user):
    """Publish the state on commit: it stays until the next one, and a page that opens gets it first."""

    def tell_now():
        # Until what was published is still true: of two requests, the one that reads first may publish last.
        told = None
        while told != (now := summary(user)):
            publish_now(f"user-{user.pk}", now, keep=True)
            told = now

    transaction.on_commit(tell_now, robust=True)  # robust: a failure is logged, and the request succeeds


@login_required
def page(request):
    """The page."""
    return render(request, "notifications.html")


@login_required
@require_POST
def send(request):
    """A note to another user."""
    to = get_object_or_404(User, username=request.POST["to"])
    Note.objects.create(user=to, text=f"{request.user}: {request.POST['text']}"[:200])
    tell(to)
    return HttpResponse(status=204)


@login_required
@require_POST
def read(request):
    """All notes have been read, in every tab."""
    Note.objects.filter(user=request.user, read=False).update(read=True)
    tell(request.user)
    return HttpResponse(status=204)


@login_required
@require_POST
def check(request):
    """A page has connected: what could not be published before is published now."""
    tell(request.user)
    return HttpResponse(status=204)


urlpatterns = [path("", page), path("send", send), path("read", read), path("check", check)]
