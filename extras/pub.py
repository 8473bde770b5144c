#!/usr/bin/env python3
"""Publish through RabbitMQ, to see that everything works.

    python extras/pub.py CHANNEL [MESSAGE]

Without a message, the time of day is published every second until interrupted. Needs pika. If your settings
are not cyclone-sse's defaults, set the environment variables AMQP_URL, as amqp://guest:guest@127.0.0.1:5672/%2F,
AMQP_EXCHANGE and AMQP_EXCHANGE_TYPE.
"""

from __future__ import annotations

import json
import os
import sys
import time

try:
    import pika
    import pika.exceptions
except ImportError:
    sys.exit("this script needs pika: pip install pika")


def main(arguments: list[str]) -> int:
    """Run the script; returns its exit code."""
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    exchange = os.environ.get("AMQP_EXCHANGE", "sse-cyclone-server")
    kind = os.environ.get("AMQP_EXCHANGE_TYPE", "direct")
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")
    try:
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            channel = connection.channel()
            channel.exchange_declare(exchange, kind)
            channel.confirm_delivery()  # without this, a message that RabbitMQ refuses would be lost silently
            while True:
                message = arguments[1] if len(arguments) > 1 else json.dumps(time.strftime("%H:%M:%S"))
                channel.basic_publish(exchange, arguments[0], message.encode())
                print(arguments[0], message, flush=True)
                if len(arguments) > 1:
                    return 0
                connection.sleep(1)
    except KeyboardInterrupt:
        return 0
    except pika.exceptions.AMQPError as error:
        print(f"{url.rpartition('@')[2]}: {error!r}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
