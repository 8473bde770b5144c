#!/usr/bin/env python3
"""Publish the time of day every second, to see that everything works.

    python extras/post.py CHANNEL [PORT]

Posts to http://127.0.0.1:PORT/publish (8888) until interrupted, with the key from the
environment variable CYCLONE_SSE_HTTP_SECRET if it is set.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


def publish(url: str, channel: str, message: str, key: str = "") -> str:
    """POST one message; returns the server's answer. Raises OSError if there is none, or a refusal."""
    fields = {"channel": channel, "message": message, "key": key}
    request = urllib.request.Request(url, urllib.parse.urlencode(fields).encode())
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(response.read().decode())


def main(arguments: list[str]) -> int:
    """Run the script; returns its exit code."""
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    channel, port = arguments[0], arguments[1] if len(arguments) > 1 else "8888"
    url = f"http://127.0.0.1:{port}/publish"
    key = os.environ.get("CYCLONE_SSE_HTTP_SECRET", "")
    try:
        while True:
            message = json.dumps(time.strftime("%H:%M:%S"))
            print(channel, message, publish(url, channel, message, key), flush=True)
            time.sleep(1)
    except urllib.error.HTTPError as error:
        print(f"{url}: {error.code} {error.read().decode()}", file=sys.stderr)
    except (OSError, http.client.HTTPException) as error:  # a wrong port is one of the latter
        print(f"{url}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
