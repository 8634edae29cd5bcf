"""The xrayd relay, with a fake X-Ray behind it that verifies every signature."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from fakes.process import Xrayd, free_port
from fakes.verdict import Verdict
from fakes.xray import CREDENTIALS, FakeXRay, Request
from live.recorder import Recorder

FORWARDED = ("/TraceSegments", "/GetSamplingRules", "/SamplingTargets")


class Relay(Recorder):
    """A recorder that clients reach only through an xrayd process."""

    is_broker = True

    def __init__(self, apply: str = "off") -> None:
        """`apply` is the setting Sampling.Apply."""
        super().__init__()
        self._apply = apply
        port = free_port()
        self.udp_address = self.tcp_address = f"127.0.0.1:{port}"
        self.endpoint_url = None  # API clients speak to X-Ray itself, not to its daemon
        self._port = port
        self._running = ExitStack()

    def __enter__(self) -> Self:
        fake = self._fake = self._running.enter_context(FakeXRay())
        for path in FORWARDED:
            fake.answer(self._reply, path=path)
        home = self._running.enter_context(tempfile.TemporaryDirectory())
        self.process = Xrayd(
            *("-o", "-n", "us-east-1", "-b", self.udp_address, "-t", self.tcp_address),
            home=Path(home),
            port=self._port,
            env={
                **CREDENTIALS,
                "AWS_ENDPOINT_URL_XRAY": fake.url,
                "XRAYD_SAMPLING_APPLY": self._apply,
            },
        )
        self._running.enter_context(self.process)
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()
        self._http.server_close()
        self._udp.close()

    def cut_off(self) -> None:
        self._fake.down()

    def restore(self) -> None:
        self._fake.up()

    def _reply(self, request: Request) -> Verdict:
        return Verdict(body=self.answer(request.path, request.json() if request.body else {}))
