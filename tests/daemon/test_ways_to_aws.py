"""TLS and proxies, each judged by where the bytes went."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.documents import make_document
from fakes.factory import XraydFactory
from fakes.proxy import FakeProxy, ProxyVerdict
from fakes.tls import Certificates
from fakes.xray import FakeXRay

NAME = "xray.example.test"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_verified_endpoint_gets_segments(
    xrayd: XraydFactory, certificates: Certificates, variable: str
) -> None:
    with FakeXRay(tls=certificates.good()) as fake:
        process = xrayd(endpoint=fake.url, env={variable: str(certificates.ca_path)})
        process.send_document(make_document())
        fake.wait_documents(1)


@pytest.mark.parametrize(
    "make",
    [
        Certificates.self_signed,
        Certificates.wrong_host,
        Certificates.expired,
        Certificates.unknown_authority,
        Certificates.old_protocol,
    ],
)
def test_an_endpoint_that_cannot_be_verified_gets_no_byte(
    xrayd: XraydFactory,
    certificates: Certificates,
    make: Callable[[Certificates], ssl.SSLContext],
) -> None:
    with FakeXRay(tls=make(certificates)) as fake:
        process = xrayd(endpoint=fake.url, env={"AWS_CA_BUNDLE": str(certificates.ca_path)})
        process.send_document(make_document())
        process.wait_for_line("Sending segment batch failed with: (tls|reset).*held")
        assert fake.body_bytes_received == 0
        assert fake.requests() == []


def test_no_verify_ssl_works_and_warns(xrayd: XraydFactory, certificates: Certificates) -> None:
    with FakeXRay(tls=certificates.self_signed()) as fake:
        process = xrayd(endpoint=fake.url, config={"NoVerifySSL": True})
        process.wait_for_line("NoVerifySSL")
        process.send_document(make_document())
        fake.wait_documents(1)


def test_a_plain_endpoint_off_loopback_works_and_warns(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    port = fake_xray.address[1]
    with FakeProxy(resolve={f"{NAME}:{port}": port}) as proxy:
        process = xrayd("-p", proxy.url, endpoint=f"http://{NAME}:{port}")
        process.wait_for_line("plain http")
        process.send_document(make_document())
        fake_xray.wait_documents(1)


def through_proxy(
    xrayd: XraydFactory,
    certificates: Certificates,
    *args: str,
    env: Callable[[FakeProxy], dict[str, str]],
    proxy_options: dict[str, object] | None = None,
) -> tuple[int, int]:
    """Send one document to an endpoint only a proxy can name; (tunnels, documents)."""
    with (
        FakeXRay(tls=certificates.good(NAME, "127.0.0.1")) as fake,
        FakeProxy(resolve={f"{NAME}:443": fake.address[1]}, **(proxy_options or {})) as proxy,  # type: ignore[arg-type]
    ):
        process = xrayd(
            *(arg.replace("{proxy}", f"127.0.0.1:{proxy.address[1]}") for arg in args),
            endpoint=f"https://{NAME}",
            env={"AWS_CA_BUNDLE": str(certificates.ca_path), **env(proxy)},
        )
        process.send_document(make_document())
        fake.wait_documents(1)
        assert {t.target for t in proxy.tunnels} == {f"{NAME}:443"}
        assert proxy.forwarded == []
        return len(proxy.tunnels), len(fake.documents)


@pytest.mark.parametrize("args", [("-p", "{proxy}"), ("--proxy-address=http://{proxy}",)])
def test_the_proxy_flag(
    xrayd: XraydFactory, certificates: Certificates, args: tuple[str, ...]
) -> None:
    assert through_proxy(xrayd, certificates, *args, env=lambda _: {}) == (1, 1)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_https_proxy(xrayd: XraydFactory, certificates: Certificates, variable: str) -> None:
    assert through_proxy(xrayd, certificates, env=lambda p: {variable: p.url}) == (1, 1)


def test_a_proxy_with_a_password(xrayd: XraydFactory, certificates: Certificates) -> None:
    made = through_proxy(
        xrayd,
        certificates,
        env=lambda p: {"HTTPS_PROXY": f"http://user:p%40ss@127.0.0.1:{p.address[1]}"},
        proxy_options={"authorization": "Basic dXNlcjpwQHNz"},
    )
    assert made == (1, 1)


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("flag", [True, False])
def test_no_proxy(
    xrayd: XraydFactory, certificates: Certificates, variable: str, flag: bool
) -> None:
    with FakeXRay(tls=certificates.good()) as fake, FakeProxy() as proxy:
        process = xrayd(
            *(["-p", proxy.url] if flag else []),
            endpoint=fake.url,
            env={
                "AWS_CA_BUNDLE": str(certificates.ca_path),
                variable: "example.com,127.0.0.0/8",
                **({} if flag else {"HTTPS_PROXY": proxy.url}),
            },
        )
        process.send_document(make_document())
        fake.wait_documents(1)
        assert proxy.requests() == []


def test_a_refusing_proxy_is_named_without_its_password(
    xrayd: XraydFactory, certificates: Certificates
) -> None:
    with (
        FakeXRay(tls=certificates.good(NAME)) as fake,
        FakeProxy(resolve={f"{NAME}:443": fake.address[1]}, authorization="Basic bm8=") as proxy,
    ):
        process = xrayd(
            endpoint=f"https://{NAME}",
            env={
                "AWS_CA_BUNDLE": str(certificates.ca_path),
                "HTTPS_PROXY": f"http://user:canary@127.0.0.1:{proxy.address[1]}",
            },
        )
        process.send_document(make_document())
        process.wait_for_line("proxy: .*refused CONNECT .*407.*held")
        assert "canary" not in process.output
        proxy.authorization = None
        fake.wait_documents(1)


@pytest.mark.parametrize(
    "fault", [ProxyVerdict(hang=True), ProxyVerdict(abort=True), ProxyVerdict(die_after=2000)]
)
def test_a_broken_proxy_loses_nothing(
    xrayd: XraydFactory, certificates: Certificates, fault: ProxyVerdict
) -> None:
    with (
        FakeXRay(tls=certificates.good(NAME)) as fake,
        FakeProxy(resolve={f"{NAME}:443": fake.address[1]}) as proxy,
    ):
        proxy.script(fault)
        process = xrayd(
            "-p", proxy.url,
            endpoint=f"https://{NAME}",
            env={"AWS_CA_BUNDLE": str(certificates.ca_path)},
        )  # fmt: skip
        process.send_document(make_document(size=20_000))
        fake.wait_documents(1, timeout=30)
        assert len(proxy.tunnels) >= 2
