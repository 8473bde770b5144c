"""Open files: a subscriber is one for the server, and one for whoever plays the subscriber."""

from __future__ import annotations

import resource

SPARE_FILES = 200  # descriptors that a process needs besides its subscribers'


def allow_files(subscribers: int) -> bool:
    """Raise the limit of this process and its children as far as it goes; whether that is enough."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard == resource.RLIM_INFINITY or hard >= subscribers + SPARE_FILES
