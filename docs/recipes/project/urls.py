"""The addresses of the recipes."""

from cyclone_sse_client.django.views import may_subscribe
from django.urls import include, path

from project import views

urlpatterns = [
    path("", views.index),
    path("leave", views.leave),
    path("push/auth", may_subscribe),
    path("chat/", include("chat.views")),
    path("notifications/", include("notifications.views")),
    path("job/", include("job.views")),
    path("table/", include("table.views")),
    path("answer/", include("answer.views")),
]
