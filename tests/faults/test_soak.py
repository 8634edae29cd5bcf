"""Faults one after another, in an order nobody chose (E-62).

XRAYD_SOAK_SECONDS says how long (60); the seed is printed and may be given as XRAYD_SOAK_SEED.
"""

import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest
from fakes.factory import XraydFactory
from fakes.process import free_port
from fakes.verdict import Unprocessed, Verdict
from fakes.xray import FakeXRay, throttle_above
from oracle import QUICK_EXIT, Oracle, scrape

SECONDS = float(os.environ.get("XRAYD_SOAK_SECONDS", "60"))
SEED = int(os.environ.get("XRAYD_SOAK_SEED") or secrets.randbelow(2**32))

FAULTS: dict[str, Callable[[Oracle], None]] = {
    "refused": lambda o: o.fake.down(),
    "500": lambda o: o.fake.answer(Verdict(status=500)),
    "429": lambda o: o.fake.answer(Verdict(status=429, error="ThrottledException")),
    "throttled": lambda o: o.fake.answer(throttle_above(5.0)),
    "denied": lambda o: o.fake.answer(Verdict(status=403, error="AccessDeniedException")),
    "slow": lambda o: o.fake.answer(Verdict(delay_s=1.5)),
    "cut": lambda o: o.fake.answer(Verdict(abort_at=10, stored=False)),
    "closed": lambda o: o.fake.answer(Verdict(close=True)),
    "reset": lambda o: o.fake.reset_connections(),
    "clock": lambda o: setattr(o.fake, "clock_offset_s", 960.0),
    "stopped": lambda o: o.process.signal(signal.SIGSTOP),
    "partial": lambda o: o.fake.answer(
        Verdict(unprocessed=Unprocessed(match=lambda d: '"padding":"x' in d and "a" in d[12:20]))
    ),
    "junk": lambda o: o.process.send(*[b"junk"] * 500),
}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(int(SECONDS) + 180)
@pytest.mark.parametrize("spool", [False, True], ids=["memory", "spool"])
def test_faults_at_random_lose_nothing_uncounted(
    xrayd: XraydFactory, fake_xray: FakeXRay, spool: bool
) -> None:
    """E-62; with the spool, memory is too small for what some faults make wait."""
    print(f"XRAYD_SOAK_SEED={SEED}")
    chance = random.Random(SEED)
    port = free_port()
    config = {
        **QUICK_EXIT,
        "Metrics": {"Address": f"127.0.0.1:{port}"},
        **({"Spool": {"Directory": "spool"}} if spool else {}),
    }
    oracle = Oracle(xrayd("-m", "3" if spool else "80", config=config), fake_xray)
    oracle.warm_up()
    seen: Counter[str] = Counter()
    files, end = oracle.process.open_files(), time.monotonic() + SECONDS
    while time.monotonic() < end or len(seen) < 5:
        name = chance.choice(list(FAULTS))
        seen[name] += 1
        FAULTS[name](oracle)
        oracle.stream(chance.uniform(0.5, 4.0), chance.choice([50.0, 200.0, 500.0]))
        oracle.process.signal(signal.SIGCONT)
        scrape(oracle.process, port)
        fake_xray.up()
        fake_xray.answer(None)
        fake_xray.clock_offset_s = 0.0
        oracle.check_recovery(10.0)
    print(dict(seen))
    assert oracle.process.open_files() <= files + 16
    end = time.monotonic() + 60.0
    while scrape(oracle.process, port)["spooled_documents"]:
        assert time.monotonic() < end
        time.sleep(0.1)  # the pace of asking
    account = oracle.close()
    # Documents that were unprocessed three times over are the only ones that may be missing.
    assert account.lost <= account.ledger["unprocessed"]
    assert account.ledger["spilled"] == account.ledger["expired"] == 0
