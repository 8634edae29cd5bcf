"""What is held for too long is given up, each document by its own age."""

import json
import time

import pytest
from fakes.documents import document_id, make_document
from fakes.factory import XraydFactory
from fakes.process import free_port
from fakes.xray import FakeXRay
from oracle import QUICK_EXIT, SLACK_S, Oracle, scrape

AGE_MAX_S = 36.0
"""The least that can be set."""
LOOK_S = 10.0
"""How often xrayd looks for what is too old."""


@pytest.mark.slow
@pytest.mark.long
def test_documents_of_one_id_expire_by_their_own_age(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """The second and the third wait for the first, and are given up when it is."""
    fake_xray.down()
    port = free_port()
    config = {
        **QUICK_EXIT,
        "Delivery": {"MaxAgeHours": AGE_MAX_S / 3600},
        "Metrics": {"Address": f"127.0.0.1:{port}"},
    }
    oracle = Oracle(xrayd(config=config), fake_xray)
    complete = json.loads(make_document())
    begun = {name: value for name, value in complete.items() if name != "end_time"}
    steps = [{**begun, "in_progress": True}, {**begun, "in_progress": True, "step": 2}, complete]
    documents = [json.dumps(step) for step in steps]
    oracle.process.send_document(*documents)
    oracle.sent += documents
    oracle.stream(AGE_MAX_S - 6.0, 1.0)
    late = len(oracle.sent) - 3
    started = time.monotonic()
    while scrape(oracle.process, port)["expired_total"] < 3:
        assert time.monotonic() - started < 6.0 + LOOK_S + SLACK_S
        time.sleep(0.1)  # the pace of asking
    account = oracle.close()
    assert account.ledger["expired"] + account.ledger["spilled"] == len(oracle.sent)
    assert account.ledger["spilled"] > late // 2  # those were younger


@pytest.mark.slow
@pytest.mark.long
def test_backlog_expires_by_the_age_of_each_document(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    """What is read back together arrived at different times where there is little traffic."""
    fake_xray.down()
    age = {"Delivery": {"MaxAgeHours": AGE_MAX_S / 3600}}
    config = {**QUICK_EXIT, **age, "Spool": {"Directory": "spool"}}
    oracle = Oracle(xrayd(config=config), fake_xray)
    oracle.stream(28.0, 1.0)
    oracle.process.kill()
    oracle.process.start()
    oracle.stream(20.0, 1.0)
    young = oracle.sent[-26:]
    fake_xray.up()
    oracle.check_recovery()
    fake_xray.wait_ids(*map(document_id, young))
    account = oracle.close()
    assert 0 < account.ledger["expired"] == account.lost
