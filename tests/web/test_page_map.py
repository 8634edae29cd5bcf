"""The service map as somebody sees it."""

from secrets import token_hex

import pytest
from browser import DevXrayd, Page
from samples import HOSTILE, request, segment
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.keys import Keys

NODES = ".graph .node"


def chain(*names: str, failing: str = "") -> list[dict]:
    """A request that goes through services, one calling the next."""
    root = segment(names[0], took=1.0, **request("/"))
    made = [root]
    for name in names[1:]:
        caller = made[-1]
        end = caller["end_time"] - 0.01
        call = {"id": token_hex(8), "name": name, "namespace": "remote",
                "start_time": caller["start_time"] + 0.01, "end_time": end}  # fmt: skip
        caller["subsegments"] = [*caller.get("subsegments", []), call]
        status = request("/", 500 if name == failing else 200)
        one = segment(name, **status) | {"trace_id": root["trace_id"], "parent_id": call["id"]}
        made.append(one | {"start_time": call["start_time"], "end_time": end})
    return made


@pytest.fixture(scope="module")
def services(dev: DevXrayd) -> None:
    for _ in range(3):
        dev.put(*chain("shop", "orders", "billing", failing="billing"))
    dev.put(*chain("shop", "search"))


@pytest.fixture
def drawn(services: None, page: Page) -> Page:
    page.open("#/map")
    page.find(f"{NODES} .title", "billing")
    return page


def places(page: Page) -> dict[str, str]:
    return page.run(
        "return Object.fromEntries([...document.querySelectorAll('.graph .node')]"
        ".map((e) => [e.dataset.node, e.getAttribute('transform')]))"
    )


def test_services_lie_in_layers_from_callers_to_callees(drawn):
    at = {name: float(place.split("(")[1].split(" ")[0]) for name, place in places(drawn).items()}
    assert at["shop|client|"] < at["shop||"] < at["orders||"] < at["billing||"]
    assert at["search||"] == at["orders||"]


def test_nodes_and_edges_tell_latency_traffic_and_faults(drawn):
    labels = {e.get_attribute("aria-label") for e in drawn.all(NODES)}
    assert any(one.startswith("billing service ") and "100 % fault" in one for one in labels)
    assert any(
        one.startswith("shop service 1.00 s: 1.00 s on average, 4 requests") for one in labels
    )
    assert drawn.all(".arc.fault")
    assert "1.00 s · 0.1/min" in drawn.texts(".edge text") or any(
        "/min" in text for text in drawn.run(
            "return [...document.querySelectorAll('.edge text')].map((e) => e.textContent)")
    )  # fmt: skip


def test_traffic_moves_nothing(dev, drawn):
    before = places(drawn)
    dev.put(*chain("shop", "search"))
    drawn.wait(lambda: any("5 requests" in (e.get_attribute("aria-label") or "")
                           for e in drawn.all(NODES)))  # fmt: skip
    assert places(drawn) == before


def test_a_node_opens_its_figures_and_leads_to_its_traces(drawn):
    drawn.find(NODES, "orders").send_keys(Keys.ENTER)
    drawn.find(".detail h2", "orders")
    drawn.find(".detail .plot .bar")
    drawn.wait(lambda: len(drawn.all(".detail .plot")) == 2)
    assert "node=orders" in drawn.driver.current_url
    drawn.find(".detail a", "Traces").click()
    drawn.find(".rows > .row", "shop.example")
    assert drawn.find("#filter").get_attribute("value") == 'service(id(name: "orders"))'


def test_search_and_neighbours_make_a_large_map_small(drawn):
    drawn.find("input[type=search]").send_keys("bill")
    drawn.wait(lambda: len(drawn.all(f"{NODES}.dim")) == len(drawn.all(NODES)) - 1)
    drawn.find("input[type=search]").send_keys(Keys.ENTER)
    drawn.find(".detail h2", "billing")

    def neighbours_only() -> bool:
        # A click that meets the choice of the node half way counts for nothing: click again.
        button = drawn.find("button", "Neighbours only")
        if button.get_attribute("aria-pressed") != "true":
            button.click()
        return set(places(drawn)) == {"billing||", "orders||"}

    drawn.wait(neighbours_only)


def test_two_hundred_services_do_not_overlap_and_can_be_read(dev, drawn):
    for number in range(100):
        dev.put(*chain("hub", f"a{number}", f"b{number}"))
    drawn.open("#/map")
    drawn.wait(lambda: len(drawn.all(NODES)) >= 200)
    spots = list(places(drawn).values())
    assert len(set(spots)) == len(spots)
    height = "return document.querySelector('.graph .title').getBoundingClientRect().height"
    assert drawn.run(height) > 9
    drawn.find("input[type=search]").send_keys("a77", Keys.ENTER)
    drawn.find(".detail h2", "a77")
    drawn.wait(lambda: len(drawn.all(".edge text")) == 2)
    drawn.find(f"{NODES} .title", "a77")


def test_a_type_is_collapsed_into_one_node_and_expanded_again(dev, page):
    root = segment("store")
    tables = [
        {"id": f"{number:016x}", "name": "DynamoDB", "namespace": "aws",
         "start_time": root["start_time"], "end_time": root["end_time"],
         "aws": {"operation": "Query", "table_name": f"table{number}"}}
        for number in range(1, 4)
    ]  # fmt: skip
    dev.put(root | {"subsegments": tables})
    page.open("#/map")
    page.find(f"{NODES} .title", "table3")
    nodes = len(page.all(NODES))
    fold = "select[aria-label='Collapse a type']"
    page.find(fold).send_keys("AWS::DynamoDB::Table")
    page.find(f"{NODES} .title", "all of AWS::DynamoDB")
    page.wait(lambda: len(page.all(NODES)) == nodes - 2)
    one = page.find("[aria-label^='all of AWS']")
    assert "3 requests" in one.get_attribute("aria-label")
    address = page.driver.current_url.partition("#")[2]
    page.open("#" + address)
    page.find(NODES, "all of AWS::DynamoDB").send_keys(Keys.ENTER)
    page.find(".detail h2", "all of AWS::DynamoDB::Table")
    page.find(fold).send_keys("Expand AWS::DynamoDB::Table")
    page.find(f"{NODES} .title", "table3")
    page.wait(lambda: len(page.all(NODES)) == nodes)


def test_a_node_is_as_large_as_its_traffic_and_its_ring_as_its_failures(dev, page):
    for path, status in {"/a": 200, "/b": 404, "/c": 429, "/d": 503}.items():
        dev.put(segment("mixed", **request(path, status)))
    dev.put(*[segment("busy", **request("/")) for _ in range(40)], segment("quiet", **request("/")))
    page.open("#/map")
    page.find(f"{NODES} .title", "mixed")
    radius = lambda name: page.run(  # noqa: E731
        "return Number(document.querySelector(`[data-node='${arguments[0]}||'] .body`)"
        ".getAttribute('r'))", name)  # fmt: skip
    page.wait(lambda: radius("busy") > radius("mixed") > radius("quiet"))
    arcs = page.run(
        "return [...document.querySelectorAll(\"[data-node='mixed||'] .arc\")].map((e) =>"
        "[e.classList[1], e.getAttribute('stroke-dasharray').split(' ').length > 2])"
    )
    # a quarter each, told apart without colour too
    assert arcs == [["ok", False], ["error", True], ["throttle", True], ["fault", False]]
    assert "25 % error, 25 % throttle, 25 % fault" in page.find(
        "[data-node='mixed||']"
    ).get_attribute("aria-label")


def test_the_map_is_zoomed_and_panned(drawn):
    def box() -> list[str]:
        view = "return document.querySelector('.graph').getAttribute('viewBox')"
        return drawn.run(view).split()

    whole = box()
    drawn.find("button[aria-label='Zoom in']").click()
    near = box()
    assert float(near[2]) < float(whole[2])
    graph = drawn.find(".graph")
    corner = (10 - graph.size["width"] // 2, 10 - graph.size["height"] // 2)
    mouse = ActionChains(drawn.driver)
    mouse.move_to_element_with_offset(graph, *corner).click_and_hold()
    mouse.move_by_offset(60, 40).release().perform()
    drawn.wait(lambda: box()[:2] != near[:2])
    assert box()[2:] == near[2:]
    drawn.find("button", "Fit").click()
    fitted = box()
    assert float(fitted[2]) > float(near[2])
    wheel = ScrollOrigin.from_element(graph)
    ActionChains(drawn.driver).scroll_from_origin(wheel, 0, -200).perform()
    drawn.wait(lambda: float(box()[2]) < float(fitted[2]))


def test_the_address_of_a_node_opens_it_and_only_its_neighbours(services, page):
    page.open("#/map?node=billing||&focus=1")
    page.find(".detail h2", "billing")
    page.wait(lambda: set(places(page)) == {"billing||", "orders||"})
    page.find(".detail a", "with faults here").click()
    page.find(".rows > .row", "shop.example")
    assert page.find("#filter").get_attribute("value") == 'service(id(name: "billing")) { fault }'


def test_what_is_hostile_is_text(dev, page):
    safe = [text for text in HOSTILE if not set(text) & set("<>{}\"'()$;")]
    dev.put(*[segment(text[:60]) for text in safe if text.isascii()])
    root = segment("evil")
    call = {"id": "00000000000000aa", "name": "x", "namespace": "aws", "start_time":
            root["start_time"], "end_time": root["end_time"],
            "aws": {"operation": "Query", "table_name": HOSTILE[0]}}  # fmt: skip
    dev.put(root | {"subsegments": [{**call, "name": "DynamoDB"}]})
    page.open("#/map")
    page.wait(lambda: any("<script>owned()" in (e.get_attribute("aria-label") or "")
                          for e in page.all(NODES)))  # fmt: skip


def test_a_trace_shows_its_own_map(dev, page):
    documents = chain("shop", "orders", "billing", failing="billing")
    dev.put(*documents)
    page.open(f"#/trace/{documents[0]['trace_id']}")
    page.find("button", "Show its map").click()
    page.find(f"{NODES} .title", "billing")
    page.find(NODES, "billing").send_keys(Keys.ENTER)
    page.find(".detail h2", "billing")
