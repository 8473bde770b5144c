"""The HTTP broker: messages that are POSTed to /publish are sent to the subscribers of this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from cyclone_sse.brokers.base import Broker
from cyclone_sse.brokers.carried import ALL_FIELDS
from cyclone_sse.delivery.events import EventIds
from cyclone_sse.delivery.journal_file import JournalError
from cyclone_sse.delivery.publication import Publication
from cyclone_sse.patterns import is_glob


class HttpBroker(Broker):
    """Delivers the messages that are POSTed to this process; there is no upstream that could be away."""

    lingers = False
    matches_patterns = True
    carries = ALL_FIELDS

    def __init__(
        self, settings: Mapping[str, Any], reactor: IReactorTime | None = None, ids: EventIds | None = None
    ) -> None:
        super().__init__(settings, "http", reactor=reactor, ids=ids)
        if type(self).is_pattern is HttpBroker.is_pattern:
            self.has_patterns = bool(self.settings["patterns"])

    def is_pattern(self, channel: str) -> bool:
        """Whether this name is a pattern; without --patterns=1 every name is that of one channel."""
        return bool(self.settings["patterns"]) and is_glob(channel)

    def start(self) -> Deferred[Any]:
        """Read the history file, if one is configured, and start."""
        if path := self.settings["history-file"]:
            try:
                self.hub.publishing.open_journal(path)
            except JournalError as error:
                raise ValueError(f"--history-file={error}") from None
        return super().start()

    async def stop(self) -> None:
        """Stop when all accepted events are on the disk."""
        await super().stop()
        await self.hub.publishing.close_journal()

    @property
    def problem(self) -> str | None:
        """Why nothing can be published at this moment: the history file cannot be written."""
        return self.hub.publishing.trouble

    def publish_all(self, publications: Sequence[Publication]) -> Sequence[str] | Deferred[Sequence[str]]:
        """Deliver these events. Returns their ids, with a history file a Deferred that waits for the disk."""
        ids: Sequence[str] | Deferred[Sequence[str]] = self.hub.idempotency.publish_new(
            publications, self.hub.publish_all
        )
        return ids
