"""Where `xrayd dev export` and `xrayd dev import` find the traces.

Both speak the X-Ray API and nothing else. Where an `xrayd dev` holds the data file, they speak to
it over HTTP, at the address it has written beside the file: it alone may write there. Where none
does, they hold the file themselves and speak to the same API inside their own process. So there is
one way to read and one to write, validation included, and never two writers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx

from xrayd.dev.api import XRayApi
from xrayd.dev.client import ApiClient
from xrayd.dev.database import MEMORY, Database, InUseError
from xrayd.dev.store import Store
from xrayd.dev.traces import GRACE_S
from xrayd.errors import ConfigError, StoreError

_NOWHERE = "http://xrayd.dev.localhost"


class InProcess(httpx.BaseTransport):
    """Carries calls to an API inside the process; no socket is involved."""

    def __init__(self, api: XRayApi) -> None:
        self._api = api

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request whose body is at hand."""
        answer = self._api.handle(request.url.path, request.read())
        return httpx.Response(answer.status, headers=answer.headers, content=answer.body)


def default_data() -> str:
    """A file of the user's own, by the XDG base directory rules.

    Raises:
        ConfigError: its folder cannot be made.
    """
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    folder = Path(base) / "xrayd"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error}; name a file with --data") from error
    return str(folder / "dev.sqlite")


@contextmanager
def open_traces(data: str | None, endpoint_url: str | None, *, create: bool) -> Iterator[ApiClient]:
    """A client of the API that has the traces of a data file.

    Args:
        data: the file; None for the default one.
        endpoint_url: the API itself; then no file is looked at.
        create: whether the file may be a new one; else it is only read.

    Raises:
        ConfigError: there is no such file, or it cannot be used.
        CallError: `endpoint_url` is no URL.
    """
    if endpoint_url is not None:
        url = endpoint_url if "://" in endpoint_url else f"http://{endpoint_url}"
        with ApiClient(url) as client:
            yield client
        return
    path = data or default_data()
    if path == MEMORY:
        raise ConfigError(f"--data {MEMORY} is no file; name the running dev by --endpoint-url")
    if not create and not Path(path).exists():
        raise ConfigError(f"there is no data file {path}; name one with --data")
    try:
        database = Database(path)
    except InUseError as error:
        if not error.url:
            raise ConfigError(f"{error}, or say where it answers with --endpoint-url") from error
        with ApiClient(error.url) as client:
            yield client
        return
    except StoreError as error:
        raise ConfigError(f"--data: {error}") from error
    if database.notice:
        click.echo(f"warning: {database.notice}", err=True)
    store = Store(database)
    try:
        # Nothing more will come while the file is held: what waits for its parent is shown.
        wait = 0.0 if create else GRACE_S
        api = XRayApi(store, clock=lambda: time.time() + wait)
        _compile(api)
        with ApiClient(_NOWHERE, InProcess(api)) as client:
            yield client
        _compile(api)
    except StoreError as error:
        raise ConfigError(f"--data: {error}") from error
    finally:
        store.close()


def _compile(api: XRayApi) -> None:
    while api.compile_due():
        pass
