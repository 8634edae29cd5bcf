"""Health as somebody sees it, and what holds for every view."""

import json
import shutil
import subprocess

import pytest
from browser import DevXrayd, Page
from samples import HOSTILE, request, segment
from selenium.webdriver.common.action_chains import ActionChains
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


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_fits_narrow_and_wide_windows_and_has_its_link_marked(page, view):
    for width in (360, 2560):
        page.resize(width, 900)
        page.open(view)
        page.find("nav a[aria-current=page]")
        page.wait(lambda: page.run("return document.querySelector('main').children.length"))
        assert page.run("return document.documentElement.scrollWidth") <= width


USABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']"
LEFT = """
return [...document.querySelectorAll(arguments[0])]
  .filter((e) => e.tabIndex >= 0 && !e.disabled && e.checkVisibility() && !e.dataset.reached)
  .map((e) => e.outerHTML.slice(0, 200))
"""


@pytest.mark.parametrize("view", [*VIEWS, "trace"])
def test_the_tab_key_leads_to_everything_that_can_be_used(dev, page, view):
    one = segment("web", annotations={"customer": "ada"}, **request("/tabbed", 503))
    dev.put(one)
    page.open(f"#/trace/{one['trace_id']}?s={one['id']}" if view == "trace" else view)
    page.find(".rows > .row, .graph .node, tr")
    if view == "trace":
        page.find(".detail h2")
    assert len(page.run(LEFT, USABLE)) > 8

    def reach_more() -> bool:
        for _ in range(10):
            ActionChains(page.driver).send_keys(Keys.TAB).perform()
            page.run("document.activeElement.dataset.reached = true")
        return page.run(LEFT, USABLE) == []

    page.wait(reach_more)


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


def test_a_hidden_page_asks_for_nothing_and_catches_up_when_it_is_looked_at_again(dev, page):
    def asked(path: str) -> int:
        names = "return performance.getEntriesByType('resource').map((e) => e.name)"
        return sum(path in name for name in page.run(names))

    def hide(*, hidden: bool) -> None:
        page.run(
            "const value = arguments[0];"
            "Object.defineProperty(document, 'hidden', { value, configurable: true });",
            hidden,
        )
        page.run("document.dispatchEvent(new Event('visibilitychange'))")

    dev.put(segment(**request("/seen/before")))
    page.open("#/traces")
    page.find(".rows > .row", "/seen/before")
    page.wait(lambda: asked("/_xrayd/live"))
    hide(hidden=True)
    polls, lists = asked("/_xrayd/live"), asked("/TraceSummaries")
    dev.put(segment(**request("/while/hidden")))
    page.wait(lambda: asked("/_xrayd/live") == polls + 1)  # the one that was under way
    for number in range(3):
        dev.put(segment(**request(f"/still/hidden/{number}")))
    page.wait(lambda: json.loads(dev.get("/_xrayd/health").body)["store"]["traces_to_compile"] == 0)
    assert (asked("/_xrayd/live"), asked("/TraceSummaries")) == (polls + 1, lists)
    hide(hidden=False)
    page.find(".rows > .row", "/while/hidden")
    page.find(".rows > .row", "/still/hidden/2")


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


def violations(page: Page, axe: str) -> list:
    page.run(axe)
    return page.driver.execute_async_script(
        "const done = arguments[0]; axe.run(document).then((r) => done("
        "r.violations.map((v) => [v.id, v.nodes.slice(0, 3).map((n) => n.html)])))"
    )


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
            assert violations(page, axe) == [], (scheme, view)
        page.open("#/sampling")
        page.find("button", "New rule").click()
        page.find("[aria-label=RuleName]")
        assert violations(page, axe) == [], (scheme, "a new rule")
    page.prefer("light")


def test_axe_finds_no_violations_on_the_first_run(tmp_path, page, axe):
    with DevXrayd(tmp_path) as empty:
        page.driver.get(f"http://127.0.0.1:{empty.port}/")
        page.find(".snippet pre")
        assert violations(page, axe) == []
        page.open()
