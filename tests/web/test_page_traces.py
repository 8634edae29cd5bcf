"""The list of traces as somebody sees it."""

import re

import pytest
from browser import DevXrayd, Page
from samples import HOSTILE, request, segment
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

ROWS = ".rows > .row"


def fill(dev: DevXrayd) -> None:
    dev.put(
        segment("web", took=0.02, user="ada", **request("/quick")),
        segment("web", took=0.5, annotations={"customer": "grace"}, **request("/slow")),
        segment("web", took=0.03, **request("/gone", 404)),
        segment("web", took=0.04, **request("/busy", 429)),
        segment("billing", took=2.0, **request("/broken", 503, "POST")),
    )


def row_of(page: Page, text: str) -> str:
    return re.sub(r"\s+", " ", page.find(ROWS, text).text)


def apply(page: Page, text: str) -> None:
    box = page.find("#filter")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(text, Keys.ESCAPE, Keys.ENTER)


@pytest.fixture(scope="module")
def traces(dev: DevXrayd) -> None:
    fill(dev)


@pytest.fixture
def filled(traces: None, page: Page) -> Page:
    page.open()
    page.find(ROWS, "/quick")
    return page


def test_the_first_run_shows_how_to_send_a_trace_and_runs_the_demo(tmp_path, dev, page):
    with DevXrayd(tmp_path) as empty:
        page.driver.get(f"http://127.0.0.1:{empty.port}/")
        page.find("h1", "No traces yet")
        assert page.texts(".snippet h2") == [
            "Python", "Node", "Java", "Go", "OpenTelemetry", "Shell"
        ]  # fmt: skip
        assert all(f"127.0.0.1:{empty.port}" in code or "/dev/udp/" in code
                   for code in page.texts(".snippet pre"))  # fmt: skip
        page.find(".snippet button", "Copy").click()
        page.find(".snippet button", "Copied")
        page.find("button", "Run the demo").click()
        page.find(ROWS, "shop.example")
        page.open()


def test_the_time_range_says_how_far_back_the_list_goes(filled, dev):
    dev.put(segment("web", ago=1200.0, **request("/a-while-ago")))
    filled.driver.refresh()
    filled.find(ROWS, "/a-while-ago")  # the last hour is where it begins
    choose = filled.find("select[aria-label='Time range']")
    Select(choose).select_by_visible_text("Last 5 min")
    filled.wait(lambda: "range=300" in filled.driver.current_url)
    filled.wait(lambda: "/a-while-ago" not in " ".join(filled.texts(ROWS)))
    assert row_of(filled, "/quick")
    Select(choose).select_by_visible_text("Last 6 hours")
    filled.find(ROWS, "/a-while-ago")


def test_the_state_of_a_trace_is_told_by_colour_word_and_shape(filled):
    seen = {row_of(filled, url)[0]: row_of(filled, url) for url in
            ("/quick", "/gone", "/busy", "/broken")}  # fmt: skip
    assert {shape: re.split(r"\W+", text)[1] for shape, text in seen.items()} == {
        "●": "OK", "▲": "Error", "▼": "Throttle", "◆": "Fault"
    }  # fmt: skip
    colours = {
        one.value_of_css_property("color")
        for kind in ("ok", "error", "throttle", "fault")
        for one in filled.all(f".rows .state.{kind}")
    }
    assert len(colours) == 4


def test_a_row_has_status_time_method_url_user_and_annotations(filled):
    assert re.search(r"OK 200 .*\d\d:\d\d:\d\d 20 ms GET .*/quick ada", row_of(filled, "/quick"))
    assert "customer grace" in row_of(filled, "/slow")
    assert "2.00 s POST" in row_of(filled, "/broken")


def test_a_new_trace_appears_by_itself_and_while_paused_it_waits(dev, filled):
    dev.put(segment(**request("/appears")))
    filled.find(ROWS, "/appears")
    filled.find("button", "Pause").click()
    dev.put(segment(**request("/waits")))
    filled.see("paused, there is news")
    assert "/waits" not in filled.text()
    filled.find("button", "Resume").click()
    filled.find(ROWS, "/waits")


def test_a_filter_narrows_the_list_and_stands_in_the_address(filled):
    apply(filled, 'service("billing")')
    filled.wait(lambda: len(filled.all(ROWS)) == 1)
    assert "/broken" in filled.text()
    assert "filter=service" in filled.driver.current_url
    address = filled.driver.current_url
    filled.open(address.partition("/#")[2].join(["#", ""]))
    filled.find(ROWS, "/broken")
    assert filled.find("#filter").get_attribute("value") == 'service("billing")'
    filled.driver.back()


def test_a_wrong_filter_is_shown_where_it_is_wrong_and_what_was_meant_is_one_click_away(filled):
    apply(filled, "fault = true AND responsetme > 1")
    error = filled.find("#filter-error", "responsetme")
    assert "At position 17" in error.text
    assert filled.texts(".marks mark") == ["responsetme"]
    filled.find("#filter-error button", "responsetime").click()
    filled.wait(lambda: len(filled.all(ROWS)) == 1)
    filled.find(ROWS, "/broken")


def test_the_box_completes_keywords_services_and_annotation_keys_by_keyboard(filled):
    box = filled.find("#filter")
    box.send_keys("serv")
    filled.find("#filter-list li", "service(")
    box.send_keys(Keys.TAB)
    filled.wait(lambda: box.get_attribute("value") == "service(")
    filled.find("#filter-list li", '"billing"')
    box.send_keys('"bil')
    filled.wait(lambda: filled.texts("#filter-list li") == ['"billing"'])
    box.send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    filled.wait(lambda: "billing" in box.get_attribute("value"))
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys("cust")
    filled.find("#filter-list li", "annotation.customer")


def test_a_brush_over_the_response_times_filters(filled):
    plot = filled.find(".plot")
    width = plot.size["width"]
    ActionChains(filled.driver).move_to_element_with_offset(
        plot, width // 4, -10
    ).click_and_hold().move_to_element_with_offset(plot, width // 2 - 4, -10).release().perform()
    filled.wait(lambda: "rt=" in filled.driver.current_url)
    filled.find(ROWS, "/broken")
    assert "/quick" not in filled.text()
    filled.find(".histogram button", "clear").click()
    filled.find(ROWS, "/quick")
    thumb = filled.find("input[type=range]")
    thumb.send_keys(Keys.ARROW_RIGHT, *[Keys.PAGE_UP] * 5)
    filled.wait(lambda: "rt=" in filled.driver.current_url)


def test_a_filter_is_saved_as_a_group(filled):
    apply(filled, "fault = true")
    filled.wait(lambda: "filter=fault" in filled.driver.current_url)
    filled.find("button", "Save as group").click()
    filled.find("form input").send_keys("Default", Keys.ENTER)
    filled.find("form .error", "exists")
    filled.find("form input").send_keys(Keys.CONTROL, "a")
    filled.find("form input").send_keys("broken", Keys.ENTER)
    filled.wait(lambda: "group=broken" in filled.driver.current_url)
    filled.wait(lambda: len(filled.all(ROWS)) == 1)


def test_the_list_is_walked_by_keyboard(filled):
    filled.find(".scroll").send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    active = filled.find(".row.active").get_attribute("data-trace")
    filled.find(".scroll").send_keys(Keys.ENTER)
    filled.wait(lambda: active in filled.driver.current_url)
    filled.driver.back()
    filled.find("body").send_keys("/")
    assert filled.active().get_attribute("id") == "filter"


def test_more_traces_than_are_kept_are_a_click_away_and_the_address_says_where(tmp_path, page):
    with DevXrayd(tmp_path) as dev:
        for first in range(0, 1150, 50):
            dev.put(*[segment("web", ago=10 + n / 10, **request(f"/no/{n}"))
                      for n in range(first, first + 50)])  # fmt: skip
        page.driver.get(f"http://127.0.0.1:{dev.port}/")
        page.find(".status", "1,000 newest traces")
        page.find(".status button", "Older").click()
        page.find(".status", "before")
        page.find(ROWS, "/no/1000")
        assert int(page.find(".status").text.split()[0]) in (150, 151)
        dev.put(segment("web", **request("/news")))
        page.driver.refresh()
        page.find(".status", "before")
        page.find(ROWS, "/no/1000")
        page.find(".status button", "Newest").click()
        page.find(ROWS, "/news")
        page.open()


def test_what_is_hostile_is_text(dev, filled):
    for number, text in enumerate(HOSTILE):
        name = re.sub(r"[^\w .:/%&#=+\\@-]", "", text)[:60]
        annotations = {f"k{number}": text}
        dev.put(
            segment(name, user=text, annotations=annotations,
                    http={"request": {"method": text[:20], "url": text}})
        )  # fmt: skip
    filled.see("<img src=x onerror=owned()>")
    filled.see("javascript:owned()")
    filled.see("⟨U+202E⟩gnp.exe")
    hrefs = filled.run("return [...document.links].map((a) => a.getAttribute('href'))")
    assert all(href.startswith("#") for href in hrefs)


@pytest.mark.parametrize("width", [360, 1000, 2560])
def test_the_list_fits_narrow_and_wide_windows(filled, width):
    filled.resize(width, 900)
    filled.find(ROWS, "/quick")
    assert filled.run("return document.documentElement.scrollWidth") <= width


def test_light_and_dark_follow_the_system_and_the_button(filled):
    def background() -> str:
        return filled.find("body").value_of_css_property("background-color")

    filled.prefer("dark")
    dark = background()
    filled.prefer("light")
    assert background() != dark
    filled.find("#theme").click()
    assert background() == dark
    filled.find("#theme").click()
