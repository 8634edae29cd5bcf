"""`xrayd sampling rules` and `xrayd sampling explain`, of a running xrayd and of a file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.factory import XraydFactory
from fakes.process import Xrayd, clean_environment, free_port
from fakes.sampling import SamplingService, make_rule, report, rule_names, statistics
from fakes.server import PATIENCE_S
from fakes.verdict import Verdict
from fakes.xray import FakeXRay

PATH_RULE = make_rule("Checkout", Priority=5, ServiceName="Shop*", URLPath="/pay/*", FixedRate=0.5)
ATTRIBUTE_RULE = make_rule("tenants", Priority=7, Attributes={"tenant": "a*"}, FixedRate=0.25)


def run(home: Path, *args: str, port: int | None = None) -> tuple[int, str]:
    """What a command prints, and its exit code."""
    process = Xrayd(*args, home=home, port=port, ready=None)
    try:
        process.start()
        return process.wait(), process.output
    finally:
        process.stop()


def ask(process: Xrayd, *args: str) -> str:
    """What `xrayd sampling` prints of a running process."""
    address = f"127.0.0.1:{process.port}"
    code, output = run(process.home, "-t", address, "sampling", *args)
    assert code == 0, output
    return output


def test_rules_are_listed_with_what_happened(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    SamplingService(fake_xray, PATH_RULE)
    fake_xray.answer(Verdict(status=503), path="/SamplingTargets")  # so there is no quota
    process = xrayd()
    rule_names(process)
    report(process, statistics("Checkout", 1, 12, SampledCount=4, BorrowCount=3))
    table = ask(process, "rules").splitlines()
    assert table[0].startswith("2 rules, AWS's, ")
    assert table[0].endswith("; 1 clients")
    assert table[2].split() == [
        "5", "Checkout", "0.5", "1", "-", "0", "1", "12", "4", "3", "service=Shop*", "path=/pay/*",
    ]  # fmt: skip
    assert table[3].split()[:2] == ["10000", "Default"]
    view = json.loads(ask(process, "rules", "--json"))
    assert view["rules"][0]["state"]["requests"] == 12
    assert view["rules"][0]["rule"]["URLPath"] == "/pay/*"


def test_xrayds_own_sampling_is_shown_beside_the_clients(
    xrayd: XraydFactory, fake_xray: FakeXRay, rules_file: str
) -> None:
    process = xrayd(config={"Sampling": {"RulesFile": rules_file, "Apply": "all"}})
    assert "; xrayd itself samples: all" in ask(process, "rules").splitlines()[0]
    shown = json.loads(ask(process, "explain", "--json", "--service", "shop", "--url", "/pay/1"))
    assert {family: each["rule"] for family, each in shown.items()} == {
        "sdk": "Checkout",
        "otel": "Checkout",
        "adot": "Default",
        "daemon": "Checkout",
    }
    assert "xrayd itself: Checkout (quota 1 " in ask(process, "explain", "--url", "/pay/1",
                                                     "--service", "shop")  # fmt: skip


def test_dev_explains_by_its_rules_as_they_stand(tmp_path: Path) -> None:
    address = "127.0.0.1:{port}"
    with Xrayd(*("-b", address, "-t", address, "dev", "--data", ":memory:"), home=tmp_path) as dev:
        rule = {name: value for name, value in PATH_RULE.items() if name != "RuleARN"}
        assert dev.post("/CreateSamplingRule", json.dumps({"SamplingRule": rule})).status == 200
        report(dev, statistics("Checkout", 1, 12, SampledCount=4, BorrowCount=3))
        view = json.loads(ask(dev, "rules", "--json"))
        shown = json.loads(
            ask(dev, "explain", "--json", "--service", "Shop", "--url", "http://h/pay/1")
        )
    state = view["rules"][0]["state"]
    assert (state["requests"], state["sampled"], state["borrowed"]) == (12, 4, 3)
    assert (state["quota"], state["handed_out"], state["clients"]) == (1, 1, 1)
    for family in ("sdk", "otel", "adot"):
        assert shown[family]["rule"] == "Checkout"
        assert shown[family]["in_force"]["fixed_rate"] == 0.5
        assert shown[family]["in_force"]["requests"] == 12


def test_dev_shows_its_rules(tmp_path: Path) -> None:
    address = "127.0.0.1:{port}"
    with Xrayd(*("-b", address, "-t", address, "dev", "--data", ":memory:"), home=tmp_path) as dev:
        rule = {name: value for name, value in PATH_RULE.items() if name != "RuleARN"}
        assert dev.post("/CreateSamplingRule", json.dumps({"SamplingRule": rule})).status == 200
        table = ask(dev, "rules").splitlines()
    assert table[0].startswith("2 rules, xrayd's own, ")
    assert table[2].split()[:3] == ["5", "Checkout", "0.5"]


@pytest.fixture
def rules_file(tmp_path: Path) -> str:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([PATH_RULE, ATTRIBUTE_RULE]))
    return str(path)


def explained(home: Path, rules_file: str, *args: str) -> dict[str, dict]:
    code, output = run(home, "sampling", "--rules-file", rules_file, "explain", "--json", *args)
    assert code == 0, output
    return json.loads(output)


def test_what_a_rule_matches_is_listed_with_its_attributes(tmp_path: Path, rules_file: str) -> None:
    code, table = run(tmp_path, "sampling", "--rules-file", rules_file, "rules")
    assert code == 0
    checkout, tenants, default = table.splitlines()[2:]
    assert checkout.endswith("  service=Shop* path=/pay/*")
    assert tenants.endswith("  attributes.tenant=a*")
    assert default.endswith("  everything")


def test_each_family_reads_the_rules_in_its_own_way(tmp_path: Path, rules_file: str) -> None:
    request = ("--service", "shop", "--url", "http://h/pay/1", "--attribute", "tenant=a1")
    found = explained(tmp_path, rules_file, *request)
    assert {family: each["rule"] for family, each in found.items()} == {
        "sdk": "Checkout",
        "otel": "Checkout",
        "adot": "tenants",  # to it, shop is not Shop*
    }
    assert found["adot"]["in_force"]["fixed_rate"] == 0.25
    (checkout,) = [each for each in found["adot"]["rules"] if each["rule"] == "Checkout"]
    assert checkout["failed"] == [{"field": "ServiceName", "pattern": "Shop*", "value": "shop"}]
    (tenants,) = [each for each in found["sdk"]["rules"] if each["rule"] == "tenants"]
    assert tenants["ignored"] == "attributes"
    nothing = explained(tmp_path, rules_file, "--client", "sdk", "--client", "otel")
    assert {family: each["rule"] for family, each in nothing.items()} == {
        "sdk": "Checkout",  # what is missing matches
        "otel": "Default",
    }


def test_a_url_gives_opentelemetry_js_a_host_without_its_port(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([make_rule("bare", Host="shop"), make_rule("port", Host="shop:*")]))
    found = explained(tmp_path, str(path), "--url", "http://shop:8080/pay")
    assert {family: each["rule"] for family, each in found.items()} == {
        "sdk": "port",
        "otel": "bare",
        "adot": "port",
    }
    header = explained(tmp_path, str(path), "--host", "shop:8080", "--client", "otel")
    assert header["otel"]["rule"] == "port"  # taken at its word


def test_a_rules_file_may_be_named_behind_the_subcommand(tmp_path: Path, rules_file: str) -> None:
    for name in ("rules", "explain"):
        before = run(tmp_path, "sampling", "--rules-file", rules_file, name)
        assert before[0] == 0
        assert run(tmp_path, "sampling", name, "--rules-file", rules_file) == before


@pytest.mark.parametrize("name", ["rules.json", "rules.yaml"])
def test_a_rules_file_may_begin_with_a_byte_order_mark(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(json.dumps([PATH_RULE]), encoding="utf-8-sig")
    assert explained(tmp_path, str(path), "--client", "sdk")["sdk"]["rule"] == "Checkout"


def test_an_explanation_says_why_in_words(tmp_path: Path, rules_file: str) -> None:
    code, output = run(
        tmp_path, "sampling", "--rules-file", rules_file,
        "explain", "--client", "otel", "--service", "Shop", "--url", "/other",
    )  # fmt: skip
    assert code == 0
    assert output.splitlines()[0].startswith("OpenTelemetry JS: Default (")
    assert "Checkout: URLPath /pay/* does not match /other" in output
    assert "tenants: Attributes.tenant a* does not match a request without one" in output


def test_a_rule_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    steering = make_rule("a\x1b[2J\nb", Priority=5, Host="\x1b]0;h\x07", URLPath="/\u202e*")
    path.write_text(json.dumps([steering, make_rule("請求規則", Priority=6, Host="h")]))
    base = ("sampling", "--rules-file", str(path))
    code, table = run(tmp_path, *base, "rules")
    assert code == 0
    assert len(table.splitlines()) == 5
    steered, wide, default = table.splitlines()[2:]
    assert r" a\x1b[2J\nb  " in steered
    assert r"host=\x1b]0;h\x07 path=/\u202e*" in steered
    rate_at = steered.index("  0.05")
    assert default.index("  0.05") == rate_at == wide.index("  0.05") + len("請求規則")
    code, told = run(tmp_path, *base, "explain", "--client", "otel", "--service", "\x1b[2J")
    assert code == 0
    assert r"a\x1b[2J\nb: Host \x1b]0;h\x07 does not match" in told
    assert len(told.splitlines()) == 4


def test_nothing_is_explained_before_the_rules_are_known(
    xrayd: XraydFactory, tmp_path: Path
) -> None:
    process = xrayd(endpoint=f"http://127.0.0.1:{free_port()}")
    assert ask(process, "rules").startswith("0 rules, AWS's, not known yet; ")
    for more in ((), ("--json",)):
        code, output = run(
            tmp_path, "-t", f"127.0.0.1:{process.port}", "sampling", "explain", *more
        )
        assert code == 1
        assert output.startswith("xrayd: the sampling rules are not known yet")


def test_a_host_that_cannot_be_one_is_one_line(tmp_path: Path) -> None:
    code, output = run(tmp_path, "-t", "a..b:2000", "sampling", "rules")
    assert code == 1
    assert output.startswith("xrayd: no xrayd answers (")
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("rules",), "no xrayd answers"),
        (("--rules-file", "absent.yaml", "rules"), "absent.yaml: cannot be read"),
        (("explain", "--url", "shop"), "write a whole URL"),
        (("explain", "--attribute", "x"), "write KEY=VALUE"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    tmp_path: Path, args: tuple[str, ...], message: str
) -> None:
    address = f"127.0.0.1:{free_port()}"
    code, output = run(tmp_path, "-t", address, "sampling", *args)
    assert code == 1
    assert message in output
    assert len(output.splitlines()) == 1


def test_help_needs_no_xrayd(tmp_path: Path) -> None:
    code, output = run(tmp_path, "sampling", "explain", "--help")
    assert code == 0
    assert "--client" in output


def test_a_closed_standard_output_is_no_traceback(tmp_path: Path, rules_file: str) -> None:
    command = [sys.executable, "-m", "xrayd", "sampling", "rules", "--rules-file", rules_file]
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command],
        cwd=tmp_path, env=clean_environment(tmp_path), stderr=subprocess.PIPE, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path: Path, rules_file: str) -> None:
    command = [sys.executable, "-m", "xrayd", "sampling", "--rules-file", rules_file, "rules"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command,
            env=clean_environment(tmp_path, {}),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=PATIENCE_S,
        )
    assert done.returncode == 1
    assert done.stderr == b"xrayd: standard output: No space left on device\n"
