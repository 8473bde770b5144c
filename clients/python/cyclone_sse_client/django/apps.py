"""The application's configuration: connects the signals."""

from __future__ import annotations

from django.apps import AppConfig

from cyclone_sse_client.django import conf


class CycloneSSEConfig(AppConfig):
    """``cyclone_sse_client.django`` in ``INSTALLED_APPS``."""

    name = "cyclone_sse_client.django"
    label = "cyclone_sse"
    verbose_name = "cyclone-sse"

    def ready(self) -> None:
        """Connect the logout signal, which ends streams, if ``django.contrib.auth`` is installed."""
        from django.apps import apps

        conf.get("URL")  # without this, an unknown name in the settings would be found only at the first call
        if conf.get("DISCONNECT_AT_LOGOUT") and apps.is_installed("django.contrib.auth"):
            from django.contrib.auth.signals import user_logged_out

            from cyclone_sse_client.django import logout

            user_logged_out.connect(logout.end_streams)
