"""A long job: its progress is the state of its channel, so a page that is loaded again shows it at once."""

import threading
import time
import uuid

from cyclone_sse_client import CycloneSSEError
from cyclone_sse_client.django import publish_now
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_POST

STEPS = 40


def work(job):
    """The job itself; put yours here, in a task of Celery or Django's own, say."""
    for done in range(STEPS):
        report(job, done)
        time.sleep(0.1)
    # No report follows the last one: if the server restarts now, pages would wait forever without this.
    for _ in range(100):
        if report(job, STEPS):
            break
        time.sleep(1)


def report(job, done):
    """Publish how far the job is. A report that fails does not end the job: the next one says more."""
    try:
        return publish_now(f"job-{job}", {"done": done, "of": STEPS}, keep=True)
    except CycloneSSEError:
        return None


@login_required
def page(request, job=None):
    """The page, with or without a job."""
    return render(request, "job.html", {"job": job})


@login_required
@require_POST
def start(request):
    """Start a job; its name cannot be guessed."""
    job = uuid.uuid4()
    threading.Thread(target=work, args=(job,), daemon=True).start()
    return redirect(f"/job/{job}")


urlpatterns = [path("", page), path("start", start), path("<uuid:job>", page)]
