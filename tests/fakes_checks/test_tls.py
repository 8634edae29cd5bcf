"""The certificates: the good one is accepted, each of the others refused before any body byte."""

import http.client
import ssl
import warnings

import pytest
from fakes.tls import Certificates
from fakes.xray import FakeXRay, Verdict


@pytest.fixture
def certificates(tmp_path):
    return Certificates(tmp_path)


def post(fake, context):
    connection = http.client.HTTPSConnection(*fake.address, timeout=20, context=context)
    try:
        connection.request("POST", "/TraceSegments", b'{"TraceSegmentDocuments":["x"]}')
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_good_certificate_is_accepted(certificates):
    with FakeXRay(tls=certificates.good()) as fake:
        fake.verify_signatures = False
        assert post(fake, certificates.client()) == 200
    assert fake.documents == ["x"]
    assert fake.url.startswith("https://")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrong_host", "IP address mismatch"),
        ("expired", "certificate has expired"),
        ("unknown_authority", "unable to get local issuer certificate"),
        ("self_signed", "self.signed certificate"),
        ("old_protocol", "(?i)protocol"),
    ],
)
def test_every_other_certificate_is_refused(certificates, name, words):
    with FakeXRay(tls=getattr(certificates, name)()) as fake:
        with pytest.raises(ssl.SSLError, match=words):
            post(fake, certificates.client())
        fake.wait_for(lambda: fake.connections == 1 and fake.open_connections == 0)
    assert fake.body_bytes_received == 0
    assert fake.requests() == []


def test_an_endpoint_may_change_its_certificate_while_it_runs(certificates):
    with FakeXRay(tls=certificates.expired()) as fake:
        fake.verify_signatures = False
        with pytest.raises(ssl.SSLError):
            post(fake, certificates.client())
        fake.tls = certificates.good()
        assert post(fake, certificates.client()) == 200


def test_the_old_protocol_is_what_the_client_minds(certificates):
    context = certificates.client()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with FakeXRay(tls=certificates.old_protocol()) as fake:
        fake.verify_signatures = False
        assert post(fake, context) == 200


def test_a_connection_over_tls_can_be_reset(certificates):
    with FakeXRay(tls=certificates.good()) as fake:
        fake.verify_signatures = False
        fake.script(Verdict(abort_at=0), Verdict(abort_at=5))
        with pytest.raises(ConnectionResetError):
            post(fake, certificates.client())
        with pytest.raises((ConnectionResetError, http.client.BadStatusLine)):
            post(fake, certificates.client())
        assert post(fake, certificates.client()) == 200
        fake.down()
        with pytest.raises(ConnectionRefusedError):
            post(fake, certificates.client())
