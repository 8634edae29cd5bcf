"""The fake HTTP proxy, used by a live boto3 client and by hand."""

import base64
import http.client
import socket

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from fakes.documents import make_document
from fakes.proxy import FakeProxy, ProxyVerdict
from fakes.tls import Certificates
from fakes.xray import ACCESS_KEY, SECRET_KEY, FakeXRay, Verdict

NAME = "xray.us-east-1.amazonaws.com"


@pytest.fixture
def certificates(tmp_path):
    return Certificates(tmp_path)


@pytest.fixture
def fake(certificates):
    with FakeXRay(tls=certificates.good(NAME)) as fake:
        yield fake


@pytest.fixture
def proxy(fake):
    with FakeProxy(resolve={f"{NAME}:443": fake.port}) as proxy:
        yield proxy


@pytest.fixture
def connect(certificates, proxy, monkeypatch):
    """Makes boto3 clients of the real endpoint's name, led to the proxy by the environment."""

    def connect(proxy_url=proxy.url, timeout=20):
        monkeypatch.setenv("HTTPS_PROXY", proxy_url)
        monkeypatch.setenv("NO_PROXY", "")
        return boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1").client(
            "xray",
            verify=str(certificates.ca_path),
            config=Config(
                retries={"total_max_attempts": 1}, connect_timeout=timeout, read_timeout=timeout
            ),
        )

    return connect


@pytest.fixture
def client(connect):
    return connect()


def put(client):
    return client.put_trace_segments(TraceSegmentDocuments=[make_document()])


def test_a_client_goes_through_the_tunnel_to_the_name_it_knows(client, proxy, fake):
    put(client)
    assert len(fake.documents) == 1
    [tunnel] = proxy.tunnels
    assert (tunnel.target, tunnel.status) == (f"{NAME}:443", 200)
    assert tunnel.bytes_up > fake.body_bytes_received
    assert tunnel.bytes_down > 0
    assert fake.requests()[0].header("Host") == NAME


def test_a_proxy_may_ask_for_a_password(connect, proxy):
    proxy.authorization = "Basic " + base64.b64encode(b"user:pass").decode()
    with pytest.raises(BotoCoreError):
        put(connect())
    put(connect(f"http://user:pass@127.0.0.1:{proxy.port}"))
    assert [t.status for t in proxy.tunnels] == [407, 200]
    assert [t.authorization for t in proxy.tunnels] == [None, proxy.authorization]


@pytest.mark.parametrize(
    ("verdict", "patience_s"),
    [
        (ProxyVerdict(status=407), 20),
        (ProxyVerdict(status=502), 20),
        (ProxyVerdict(abort=True), 20),
        (ProxyVerdict(die_after=600), 20),
        (ProxyVerdict(hang=True), 0.2),
        (ProxyVerdict(delay_s=600), 0.2),
    ],
)
def test_a_proxy_that_fails_once_lets_nothing_through_and_then_works(
    connect, proxy, fake, verdict, patience_s
):
    proxy.script(verdict)
    with pytest.raises(BotoCoreError):
        put(connect(timeout=patience_s))
    assert fake.documents == []
    put(connect())
    assert len(fake.documents) == 1


def test_a_proxy_that_is_down_refuses(client, proxy, fake):
    proxy.down()
    with pytest.raises(BotoCoreError):
        put(client)
    proxy.up()
    put(client)
    assert len(fake.documents) == 1


def test_unknown_names_are_not_looked_up(proxy):
    with socket.create_connection(proxy.address, 20) as sock:
        sock.sendall(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 502 ")
    assert proxy.tunnels[0].status == 502


@pytest.mark.parametrize("host", ["xray.example.test:80", "xray.example.test", "127.0.0.1:PORT"])
def test_plain_http_is_forwarded_and_recorded(host):
    with FakeXRay() as fake, FakeProxy(resolve={"xray.example.test:80": fake.port}) as proxy:
        fake.verify_signatures = False
        host = host.replace("PORT", str(fake.port))
        connection = http.client.HTTPConnection(*proxy.address, timeout=20)
        connection.request(
            "POST",
            f"http://{host}/TraceSegments",
            b'{"TraceSegmentDocuments":["x"]}',
            {"Proxy-Authorization": "Basic eDp5"},
        )
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b'{"UnprocessedTraceSegments": []}')
        connection.close()
    [forwarded] = proxy.forwarded
    assert forwarded.target == f"http://{host}/TraceSegments"
    assert forwarded.authorization == "Basic eDp5"
    [received] = fake.requests()
    assert (received.target, fake.documents) == ("/TraceSegments", ["x"])
    assert received.header("proxy-authorization") is None


def test_a_reset_behind_the_tunnel_reaches_the_client(client, proxy, fake):
    fake.script(Verdict(abort_at=0))
    with pytest.raises(BotoCoreError):
        put(client)
    assert len(fake.documents) == 1
