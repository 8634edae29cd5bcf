"""Three services in a row: Node calls Python calls Java, all traced to one daemon."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from live.clients import RunningClient

SERVICES = (("storefront", "node"), ("orders", "python"), ("stock", "java"))  # the callers first

Request = Callable[[str], dict[str, Any]]


@contextmanager
def chain(start_client: Callable[..., RunningClient], daemon_address: str) -> Iterator[Request]:
    """Run the services; yields a function which sends one GET and returns the first one's answer.

    An answer is {"service", "trace_id", "segment_id", "next"}, `next` being the next service's
    answer. A path ending in /fail makes the last service answer 500, which the others pass on.
    """
    with ExitStack() as running:
        url: list[str] = []
        for service, client in reversed(SERVICES):
            started = start_client(client, "serve", service, *url, daemon_address=daemon_address)
            port = running.enter_context(started).report()["port"]
            url = [f"http://127.0.0.1:{port}"]
        yield lambda path: _get(url[0] + path)


def _get(url: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=60) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)
