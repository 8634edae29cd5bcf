"""Start a client program, talk to it in JSON lines, and see that it ends well."""

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from live.toolchains import CLIENTS as FOLDER
from live.toolchains import TOOLCHAINS, installed

ANSWER_TIMEOUT_S = 90.0

# Enough for any client, and nothing of the machine's own AWS set-up.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
    "LANG": "C.UTF-8",
    "NO_PROXY": "127.0.0.1",
}


@dataclass(frozen=True)
class Program:
    """A client: the toolchain it needs and its file in the toolchain's folder."""

    toolchain: str
    file: str
    scenarios: frozenset[str]

    def command(self, target: Path) -> tuple[list[str], dict[str, str]]:
        """Its command line and the variables that lead it to the packages installed in target."""
        source = str(FOLDER / self.toolchain / self.file)
        match self.toolchain:
            case "python" | "adot":
                return [str(target / "venv/bin/python"), source], {}
            case "node":
                return ["node", source], {"NODE_PATH": str(target / "node_modules")}
            case "java":
                light = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
                path = f"{target / 'classes'}:{target}/libs/*"
                return ["java", *light, "-cp", path, self.file.removesuffix(".java")], {}
            case _:
                return [str(target / "client")], {}


PROGRAMS = {
    "python": Program("python", "xray_sdk.py", frozenset({"udp", "sampling", "serve"})),
    "node": Program("node", "xray_sdk.js", frozenset({"udp", "sampling", "serve"})),
    "java": Program("java", "XRaySdk.java", frozenset({"udp", "sampling", "serve"})),
    "go": Program("go", "main.go", frozenset({"udp", "sampling"})),
    "adot": Program("adot", "distro.py", frozenset({"udp", "sampling"})),
    "otel-js": Program("node", "otel_sampler.js", frozenset({"sampling"})),
    "powertools-python": Program("python", "powertools_tracer.py", frozenset({"udp"})),
    "powertools-node": Program("node", "powertools_tracer.js", frozenset({"udp"})),
    "flask-aws": Program("python", "flask_aws.py", frozenset({"serve"})),
    "boto3": Program("python", "boto3_api.py", frozenset({"api"})),
    "awscli": Program("python", "awscli_api.py", frozenset({"api"})),
    "aws-sdk-js": Program("node", "sdk_api.js", frozenset({"api"})),
}


class RunningClient:
    """One client process. Ending the `with` ends its input, and with it the process."""

    def __init__(
        self,
        name: str,
        scenario: str,
        *arguments: str,
        daemon_address: str,
        endpoint_url: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process.

        Args:
            name: a key of PROGRAMS.
            scenario: one of the program's scenarios.
            arguments: what the scenario takes.
            daemon_address: the value of AWS_XRAY_DAEMON_ADDRESS.
            endpoint_url: where an API client finds X-Ray.
            env: more variables for the process.

        Raises:
            ToolchainAbsentError: this machine cannot install the client.
        """
        program = PROGRAMS[name]
        assert scenario in program.scenarios, f"{name} has no scenario {scenario}"
        command, variables = program.command(installed(TOOLCHAINS[program.toolchain]))
        environment = ENVIRONMENT | variables | {"AWS_XRAY_DAEMON_ADDRESS": daemon_address}
        environment |= {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        if endpoint_url is not None:
            environment["AWS_ENDPOINT_URL_XRAY"] = endpoint_url
        self._label = f"{name} {scenario}"
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._unread = b""
        self._process = subprocess.Popen(
            [*command, scenario, *arguments],
            bufsize=0,
            env=environment | dict(env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self.close(check=kind is None)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._stderr.close()

    def ask(self, line: str, timeout: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """Give the program a line and return the JSON line with which it answers."""
        self._process.stdin.write(line.encode() + b"\n")
        return self.report(timeout)

    def report(self, timeout: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """The next JSON line of the program."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            patience = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([self._process.stdout], [], [], patience)
            assert readable, self._failure(f"said nothing within {timeout:g} s")
            chunk = os.read(self._process.stdout.fileno(), 65_536)
            assert chunk, self._failure("ended its output")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def close(self, *, check: bool = True) -> None:
        """End the program's input and wait for its end; AssertionError if it ends badly."""
        self._process.stdin.close()
        try:
            status = self._process.wait(ANSWER_TIMEOUT_S if check else 5.0)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(self._failure("does not end")) from error
        assert not check or status == 0, self._failure(f"ended with status {status}")

    def _failure(self, what: str) -> str:
        self._stderr.seek(0)
        return (
            f"{self._label} {what}; standard error:\n{self._stderr.read().decode(errors='replace')}"
        )
