"""A live table: a page, its rows, and a change of a row."""

from cyclone_sse_client.django import publish
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path
from django.views.decorators.http import require_POST

from table.models import Row


@login_required
def page(request):
    """The page; the first visitor makes three rows."""
    if not Row.objects.exists():
        Row.objects.bulk_create(Row(name=name, price=1) for name in ("Tea", "Coffee", "Milk"))
    return render(request, "table.html")


@login_required
def rows(request):
    """All rows as they are now."""
    return JsonResponse([row.as_json() for row in Row.objects.order_by("pk")], safe=False)


@login_required
@require_POST
@transaction.atomic
def change(request, pk):
    """Change a price. It is published when the change is committed, and not at all if it is not."""
    row = get_object_or_404(Row.objects.select_for_update(), pk=pk)
    row.price, row.version = request.POST["price"], row.version + 1
    try:
        row.full_clean()
    except ValidationError as error:
        return HttpResponse("; ".join(error.messages), status=400)
    row.save()
    publish("table", row.as_json())
    return HttpResponse(status=204)


urlpatterns = [path("", page), path("rows", rows), path("<int:pk>", change)]
