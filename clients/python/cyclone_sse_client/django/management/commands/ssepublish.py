"""``manage.py ssepublish CHANNEL.. MESSAGE``: publish from a shell, and print the answer."""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cyclone_sse_client.django import publish_now
from cyclone_sse_client.errors import CycloneSSEError


class Command(BaseCommand):
    """Publish one message with the settings of this project."""

    help = "Publish a message to one channel or several of the cyclone-sse server"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the channels, the message, and its fields."""
        parser.add_argument("channels", nargs="+", metavar="channel")
        parser.add_argument("message", help="text; with --json a JSON value")
        parser.add_argument("--json", action="store_true", help="read the message as JSON")
        parser.add_argument("--event", help="the event's type")
        parser.add_argument("--keep", action="store_true", help="make it the state of its channels")

    def handle(self, *args: Any, **options: Any) -> None:
        """Publish, and print the event's id and the number of its subscribers."""
        try:
            message = json.loads(options["message"]) if options["json"] else options["message"]
            done = publish_now(options["channels"], message, event=options["event"], keep=options["keep"])
        except (ValueError, CycloneSSEError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"published {done.id or 'without an id'}, to {done.subscribers} clients of this server")
