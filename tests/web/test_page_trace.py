"""One trace as somebody sees it."""

import secrets
import time

import pytest
from browser import DevXrayd, Page
from samples import HOSTILE, request, segment
from selenium.webdriver.common.keys import Keys

ROWS = ".rows > .row"


def part(name, start, end, **more):
    return {"id": secrets.token_hex(8), "name": name, "start_time": start, "end_time": end, **more}


@pytest.fixture(scope="module")
def shop(dev: DevXrayd) -> dict:
    """web calls payments (traced by nobody) and a database; a job of it never ended."""
    other = segment("worker")
    root = segment("web", took=1.0, **request("/checkout", 502, "POST"))
    root["links"] = [{"trace_id": other["trace_id"], "id": other["id"]}]
    at = root["start_time"]
    sql = {"sanitized_query": "SELECT " + HOSTILE[0], "database_type": "PostgreSQL"}
    stack = [{"path": "app.py", "line": 7, "label": "charge"}]
    cause = {"exceptions": [{"id": secrets.token_hex(8), "type": "Timeout" + HOSTILE[1],
                             "message": HOSTILE[3], "stack": stack}]}  # fmt: skip
    job = part("job", at + 0.96, None, in_progress=True)
    del job["end_time"]
    root["subsegments"] = [
        part("shop@db", at + 0.1, at + 0.2, namespace="remote", sql=sql),
        part("payments", at + 0.2, at + 0.95, namespace="remote", fault=True, cause=cause,
             annotations={"customer": "grace"}, metadata={"default": {"card": {"kind": "visa"}}}),
        part("log", at + 0.21, at + 0.22),
        job,
    ]  # fmt: skip
    dev.put(root, other)
    return {**root, "other": other["trace_id"]}


@pytest.fixture
def opened(shop: dict, page: Page) -> Page:
    page.open(f"#/trace/{shop['trace_id']}")
    page.find(ROWS, "payments")
    return page


def test_the_waterfall_nests_marks_and_hatches(opened):
    page = opened
    assert "POST http://shop.example/checkout" in page.find("h1").text
    rows = page.texts(f"{ROWS} .name")
    assert [row.replace("\n", "") for row in rows] == [
        "▾◆web", "▾●shop@db", "●shop@dbinferred", "▾◆payments", "◆paymentsinferred", "●log",
        "◌job"
    ]  # fmt: skip
    page.find(f"{ROWS} .took", "in progress")
    hatched = page.all(".bar-box.fault")
    assert hatched
    assert "repeating" in hatched[0].value_of_css_property("background-image")
    critical = page.run(
        "return [...document.querySelectorAll('.critical')]"
        ".map((e) => e.closest('.row').querySelector('.name').innerText).join()"
    )
    assert "payments" in critical
    assert "log" not in critical
    lefts = [bar.location["x"] for bar in page.all(".bar-box")]
    assert lefts[1] > lefts[0]


def test_details_show_everything_as_text(opened):
    page = opened
    page.find(ROWS, "payments").click()
    page.find(".detail h2", "payments")
    seen = page.find(".detail").text
    for text in ("750 ms", "Timeout<img src=x onerror=owned()>", "javascript:owned()",
                 "charge", "app.py:7", "grace", '"kind": "visa"'):  # fmt: skip
        assert text in seen
    page.find("summary", "Raw document").click()
    page.find(".detail pre", '"metadata"')
    page.find(".detail button", "Copy").click()
    page.find(".detail button", "Copied")
    page.find(ROWS, "shop@db").click()
    page.find(".detail pre", "SELECT <script>owned()</script>")


def test_the_address_names_what_is_selected(opened, shop):
    page = opened
    page.find(ROWS, "log").click()
    page.find(".detail h2", "log")
    address = page.driver.current_url.partition("#")[2]
    assert "s=" in address
    page.open("#" + address)
    page.find(".detail h2", "log")
    page.find(".detail").send_keys(Keys.ESCAPE)
    page.wait(lambda: not page.find("body").find_element("css selector", ".detail").is_displayed())


def test_an_annotation_leads_to_the_traces_that_have_it(opened):
    opened.find(ROWS, "payments").click()
    opened.find(".detail dd a", "grace").click()
    opened.find(ROWS, "/checkout")
    assert opened.find("#filter").get_attribute("value") == 'annotation.customer = "grace"'


def test_a_link_leads_to_the_other_trace(opened, shop):
    opened.find(ROWS, "web").click()
    opened.find(".detail a", shop["other"]).click()
    opened.find("h1", "worker")


def test_rows_collapse_and_zoom_by_mouse_and_keyboard(opened):
    page = opened
    page.find("button[aria-label='Collapse web']").click()
    page.wait(lambda: len(page.all(ROWS)) == 1)
    page.find(".scroll").send_keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    page.wait(lambda: len(page.all(ROWS)) == 7)
    page.find("button", "Critical path only").click()
    page.wait(lambda: "●log" not in "".join(page.texts(f"{ROWS} .name")).replace("\n", ""))
    page.find("button", "Critical path only").click()
    before = page.texts(".ruler span")
    page.find(".scroll").send_keys("+")
    page.wait(lambda: page.texts(".ruler span") != before)
    page.find(".scroll").send_keys("0")
    page.wait(lambda: page.texts(".ruler span") == before)


def test_an_unfinished_trace_grows_while_it_is_looked_at(dev, page):
    root = segment("slow", ago=0.0)
    del root["end_time"]
    dev.put({**root, "in_progress": True})
    page.open(f"#/trace/{root['trace_id']}")
    page.find(ROWS, "in progress")
    dev.put({**root, "end_time": time.time(), "subsegments": []})
    page.wait(lambda: "in progress" not in page.text())


def test_five_thousand_subsegments_scroll_with_few_elements(dev, page):
    root = segment("big", took=5.0)
    at = root["start_time"]
    parts = [
        {"name": f"call {n}", "id": secrets.token_hex(8), "trace_id": root["trace_id"],
         "parent_id": root["id"], "type": "subsegment",
         "start_time": at + n / 1000, "end_time": at + n / 1000 + 0.001}
        for n in range(5000)
    ]  # fmt: skip
    dev.put(root)
    for first in range(0, 5000, 500):
        dev.put(*parts[first : first + 500])
    page.open(f"#/trace/{root['trace_id']}")
    page.find(ROWS, "call 3")
    page.see("5,001 segments")
    page.find(".scroll").send_keys(Keys.END)
    page.find(ROWS, "call 4999")
    assert len(page.all(ROWS)) < 100
    page.run("document.querySelector('.scroll').scrollTop = 70000")
    page.find(ROWS, "call 2505")


def test_an_unknown_trace_is_said_to_be_unknown(page):
    page.open("#/trace/1-00000000-000000000000000000000000")
    page.see("There is no trace 1-00000000")
    page.open("#/trace/<b>x</b>")
    page.see("There is no trace <b>x</b>")


@pytest.mark.parametrize("width", [360, 2560])
def test_a_trace_fits_narrow_and_wide_windows(opened, width):
    opened.resize(width, 900)
    opened.find(ROWS, "payments").click()
    opened.find(".detail h2")
    assert opened.run("return document.documentElement.scrollWidth") <= width
