"""The answer of a language model: each token is an event, and the last event has the whole answer."""

import re
import threading
import time
import uuid

from cyclone_sse_client import CycloneSSEError
from cyclone_sse_client.django import publish_now
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_POST


def tokens(question):
    """The tokens of an answer; put the stream of your model here."""
    text = f"You asked: {question}\n\n" + " ".join(f"This is word {n} of the answer." for n in range(1, 21))
    for token in re.findall(r"\s*\S+", text):
        time.sleep(0.05)
        yield token


def run(answer, question):
    """Publish the tokens, with those before them that could not be published, and at the end all of them."""
    known, sent, is_complete = [], 0, False
    try:
        for token in tokens(question):
            known.append(token)
            if report(answer, "token", {"at": sent, "tokens": known[sent:]}):
                sent = len(known)
        is_complete = True
    finally:  # also if the model fails: pages would wait forever without this
        for _ in range(100):
            if report(answer, "end", {"text": "".join(known), "is_complete": is_complete}):
                break
            time.sleep(1)


def report(answer, event, message):
    """Publish, or return None: the next event says more. Over one kept connection."""
    try:
        return publish_now(f"answer-{answer}", message, event=event)
    except CycloneSSEError:
        return None


@login_required
def page(request, answer=None):
    """The page, with or without an answer."""
    return render(request, "answer.html", {"answer": answer})


@login_required
@require_POST
def ask(request):
    """Start an answer; its name cannot be guessed."""
    answer = uuid.uuid4()
    threading.Thread(target=run, args=(answer, request.POST["question"]), daemon=True).start()
    return redirect(f"/answer/{answer}")


urlpatterns = [path("", page), path("ask", ask), path("<uuid:answer>", page)]
