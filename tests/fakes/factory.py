"""Starts xrayd processes wired to a fake X-Ray."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fakes.process import Xrayd
from fakes.xray import CREDENTIALS, FakeXRay


class XraydFactory:
    """Starts xrayd processes wired to a FakeXRay, as a user would.

    The command line is `-o -n REGION -b 127.0.0.1:PORT -t 127.0.0.1:PORT -c cfg.yaml`, then
    `args`; the file holds the endpoint and `config` (which may remove a key with None); the
    environment holds the fake's credentials and `env` (the same).
    """

    def __init__(self, home: Path, fake: FakeXRay, processes: list[Xrayd]) -> None:
        self._home = home
        self._fake = fake
        self._processes = processes

    def __call__(
        self,
        *args: str,
        endpoint: str | None = None,
        config: Mapping[str, Any] | None = None,
        env: Mapping[str, str | None] | None = None,
        region: str | None = "us-east-1",
        home: Path | None = None,
        **options: Any,
    ) -> Xrayd:
        """Start one and wait until it is ready; `options` are those of `fakes.process.Xrayd`.

        `home` (and with it the config file and any spool) may be given to start again what ran
        before.
        """
        if home is None:
            home = self._home / f"xrayd-{len(self._processes)}"
            home.mkdir()
        settings = {"Version": 2, "Endpoint": endpoint or self._fake.url, **(config or {})}
        (home / "cfg.yaml").write_text(  # JSON is YAML
            json.dumps({key: value for key, value in settings.items() if value is not None})
        )
        variables = {**CREDENTIALS, **(env or {})}
        flags = ["-o", "-b", "127.0.0.1:{port}", "-t", "127.0.0.1:{port}", "-c", "cfg.yaml"]
        if region is not None:
            flags += ["-n", region]
        process = Xrayd(
            *flags,
            *args,
            home=home,
            env={name: value for name, value in variables.items() if value is not None},
            **options,
        )
        self._processes.append(process)
        return process.start()
