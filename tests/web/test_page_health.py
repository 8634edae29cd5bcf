"""Health and sampling as somebody sees them, and what holds for every view."""

import json
import shutil
import subprocess

import pytest
from browser import DevXrayd, Page
from samples import HOSTILE, request, segment
from selenium.webdriver.common.keys import Keys

VIEWS = ["#/traces", "#/map", "#/sampling", "#/health"]


def test_health_shows_where_documents_went(dev, page):
    dev.send_document(json.dumps(segment(**request("/over/udp"))))
    dev.send(b"no document")
    page.open("#/health")
    page.find(".card h2", "Ledger")
    page.wait(lambda: "1" in page.find("tr", "Delivered").text)
    assert "1" in page.find("tr", "Rejected on arrival").text
    page.see("1 documents were lost or refused")
    record = {"Timestamp": 1.7e9, "SegmentsReceivedCount": 12}
    dev.call("/TelemetryRecords", TelemetryRecords=[record], Hostname=HOSTILE[0])
    page.find("th", HOSTILE[0])


def test_the_demo_is_started_and_stopped(dev, page):
    page.open("#/health")
    page.find("button", "Run the demo").click()
    page.find("button", "Stop the demo").click()
    page.find("button", "Run the demo")


def test_rules_are_made_changed_and_removed_in_place(dev, page):
    page.open("#/sampling")
    page.find("tr[data-rule=Default]")
    page.find("button", "New rule").click()
    page.find("input[aria-label=RuleName]").send_keys("checkout")
    path = page.find("input[aria-label=URLPath]")
    path.send_keys(Keys.CONTROL, "a")
    path.send_keys("/checkout*", Keys.ENTER)
    assert "/checkout*" in page.find("tr[data-rule=checkout]").text
    page.find("button[aria-label='Edit checkout']").click()
    rate = page.find("input[aria-label=FixedRate]")
    rate.send_keys(Keys.CONTROL, "a")
    rate.send_keys("7", Keys.ENTER)
    page.wait(lambda: page.find("p.error").text != "")
    rate.send_keys(Keys.CONTROL, "a")
    rate.send_keys("0.25", Keys.ENTER)
    page.wait(lambda: "25 %" in page.find("tr[data-rule=checkout]").text)

    page.find("input[aria-label=Path]").send_keys("/checkout/now", Keys.ENTER)
    page.find(".verdicts li", "takes the request")
    assert page.texts(".verdicts li")[0].startswith("checkout ✓")
    box = page.find("input[aria-label=Path]")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys("/elsewhere", Keys.ENTER)
    page.find(".verdicts li", "URLPath /checkout* ≠ /elsewhere")

    page.find("button[aria-label='Delete checkout']").click()
    page.wait(lambda: not page.all("tr[data-rule=checkout]"))


def test_statistics_stand_beside_their_rule(dev, page):
    report = {"RuleName": "Default", "ClientID": "0" * 24, "Timestamp": segment()["end_time"],
              "RequestCount": 1234, "SampledCount": 56, "BorrowCount": 7}  # fmt: skip
    dev.call("/SamplingTargets", SamplingStatisticsDocuments=[report])
    page.open("#/sampling")
    assert "1,234 56 7" in page.find("tr[data-rule=Default]").text


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_fits_narrow_and_wide_windows_and_has_its_link_marked(page, view):
    for width in (360, 2560):
        page.resize(width, 900)
        page.open(view)
        page.find("nav a[aria-current=page]")
        page.wait(lambda: page.run("return document.querySelector('main').children.length"))
        assert page.run("return document.documentElement.scrollWidth") <= width


def test_an_address_of_nothing_says_so(page):
    page.open("#/nowhere")
    page.see("There is nothing at this address")


def test_the_page_goes_on_after_a_restart(tmp_path, page):
    with DevXrayd(tmp_path) as first:
        page.driver.get(f"http://127.0.0.1:{first.port}/")
        first.put(segment(**request("/before")))
        page.find(".rows > .row", "/before")
        first.sigterm()
        assert first.wait() == 0
        page.find("#connection", "xrayd does not answer")
        with DevXrayd(tmp_path, port=first.port) as second:
            page.find("#connection", "live")
            second.put(segment(**request("/after")))
            page.find(".rows > .row", "/after")
            page.open()


@pytest.fixture(scope="session")
def axe(tmp_path_factory) -> str:
    """axe-core's source, from the npm registry."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm for axe-core")
    home = tmp_path_factory.mktemp("axe")
    install = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "axe-core@4"]
    try:
        done = subprocess.run(install, cwd=home, capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("axe-core was not obtained in time")
    if done.returncode != 0:
        pytest.skip(f"axe-core could not be obtained: {done.stderr.decode()[-200:]}")
    return (home / "node_modules/axe-core/axe.min.js").read_text()


def test_axe_finds_no_violations(dev: DevXrayd, page: Page, axe):
    one = segment(annotations={"customer": "ada"}, **request("/seen", 503))
    dev.put(one, segment(**request("/other", 404)))
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        for view in (*VIEWS, f"#/trace/{one['trace_id']}?s={one['id']}", "#/map?node=web||"):
            page.open(view)
            page.find(".rows > .row, .graph .node, tr")
            if "=" in view:
                page.find(".detail h2")
            page.run(axe)
            found = page.driver.execute_async_script(
                "const done = arguments[0]; axe.run(document).then((r) => done("
                "r.violations.map((v) => [v.id, v.nodes.slice(0, 3).map((n) => n.html)])))"
            )
            assert found == [], (scheme, view)
    page.prefer("light")
