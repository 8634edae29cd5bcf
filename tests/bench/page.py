"""The page in a browser: first paint, long tasks, bytes, and the CPU of a page nobody touches.

Run it by hand: `python tests/bench/page.py [list map trace idle]`; it takes about three minutes,
needs chromium and chromedriver, and prints one table. It is no test: figures depend on the machine.
A task is long above 50 ms of the page's main thread, by the browser's own count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "web"))

from browser import DevXrayd, Page, open_browser
from samples import request, segment

import xrayd.web

WATCH = """
window.tasks = [];
new PerformanceObserver((list) => tasks.push(...list.getEntries().map((one) => one.duration)))
  .observe({ type: "longtask", buffered: true });
new MutationObserver((_, observer) => {
  if (!document.querySelector(".rows > .row")) return;
  window.firstRow = performance.now();
  observer.disconnect();
}).observe(document, { childList: true, subtree: true });
"""
FIRST_PAINT = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
TRACES = 1000
SERVICES = 200
LAYER = SERVICES // 5
SUBSEGMENTS = 5000
PAINTS = 7
LIVE_PER_S = 40
HERTZ = os.sysconf("SC_CLK_TCK")


def row(what: str, figure: str, wanted: str) -> None:
    print(f"{what:<58}{figure:>34}   {wanted}", flush=True)


def services(chance: random.Random) -> Iterator[list[dict[str, Any]]]:
    """Traces through five layers of services; the first is half as wide, for each has a client."""
    widths = [LAYER // 2, LAYER, LAYER, LAYER, LAYER]
    layers = [[f"svc-{layer}-{n:02}" for n in range(width)] for layer, width in enumerate(widths)]
    for number in range(LAYER * 5):
        names = [
            layer[(number * (2 * place + 1) + number // LAYER) % len(layer)]
            for place, layer in enumerate(layers)
        ]
        yield chain(names, 500 if chance.random() < 0.1 else 200)


def chain(names: list[str], status: int) -> list[dict[str, Any]]:
    """One trace in which each service calls the next."""
    made = [segment(names[0], took=1.0, **request("/", status))]
    for name in names[1:]:
        caller = made[-1]
        start, end = caller["start_time"] + 0.01, caller["end_time"] - 0.01
        call = {"id": secrets.token_hex(8), "name": name, "namespace": "remote"}
        caller["subsegments"] = [{**call, "start_time": start, "end_time": end}]
        ids = {"trace_id": made[0]["trace_id"], "parent_id": call["id"]}
        own = segment(name, **request("/", status))
        made.append(own | ids | {"start_time": start, "end_time": end})
    return made


def entry(chance: random.Random, number: int) -> dict[str, Any]:
    """A trace of one segment, of a service that is on the map anyhow."""
    status = chance.choice((200, 200, 200, 404, 429, 500))
    more = request(f"/orders/{number}", status) | {"annotations": {"customer": f"c{number % 50}"}}
    return segment(f"svc-0-{number % 20:02}", took=chance.lognormvariate(-2, 1), **more)


def large_trace(dev: DevXrayd) -> str:
    root = segment("svc-0-00", took=5.0)
    parts = [
        {
            "name": f"call {n}", "id": secrets.token_hex(8), "type": "subsegment",
            "trace_id": root["trace_id"], "parent_id": root["id"],
            "start_time": root["start_time"] + n / 1000,
            "end_time": root["start_time"] + n / 1000 + 0.02,
        }
        for n in range(SUBSEGMENTS)
    ]  # fmt: skip
    dev.put(root)
    for first in range(0, SUBSEGMENTS, 500):
        dev.put(*parts[first : first + 500])
    return root["trace_id"]


@contextmanager
def traffic(dev: DevXrayd) -> Iterator[None]:
    """Traces of what is on the map already, over UDP, for as long as the block runs."""
    stop = threading.Event()
    chance = random.Random(2)
    known = list(services(chance))

    def send() -> None:
        while not stop.wait(1 / LIVE_PER_S):
            names = [one["name"] for one in chance.choice(known)]
            dev.send_document(*[json.dumps(one) for one in chain(names, 200)])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        stop.set()
        sender.join()


def wheel(page: Page, selector: str, seconds: float, delta: Callable[[int], int]) -> None:
    """Turn the wheel over an element, as often as frames come."""
    box = page.run(
        "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return [b.left + b.width / 2, b.top + b.height / 2]", selector
    )  # fmt: skip
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        event = {"type": "mouseWheel", "x": box[0], "y": box[1], "deltaX": 0}
        event["deltaY"] = delta(number)
        page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        number += 1


def drag(page: Page, selector: str, seconds: float) -> None:
    """Hold and move, round and round."""
    box = page.run(
        "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return [b.left + 12, b.top + 12]", selector
    )  # fmt: skip

    def mouse(kind: str, x: float, y: float) -> None:
        event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    mouse("mousePressed", *box)
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        mouse("mouseMoved", box[0] + number % 60 * 5, box[1] + number % 40 * 5)
        number += 1
    mouse("mouseReleased", *box)


@contextmanager
def long_tasks(page: Page, what: str) -> Iterator[None]:
    """Print the long tasks of a block."""
    page.run("window.tasks.length = 0")
    yield
    time.sleep(0.3)  # the observer hears of tasks a little later
    found = page.run("return window.tasks")
    figure = f"{len(found)}, longest {max(found):.0f} ms" if found else "0"
    row(f"long tasks, {what}", figure, "0")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / HERTZ


def renderer(page: Page) -> int:
    """The process of the window that shows the page: the renderer that has worked most."""
    home = page.driver.capabilities["chrome"]["userDataDir"]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_text()
            except OSError:
                continue
            if "--type=renderer" in command and home in command:
                found.append(int(entry.name))
    return max(found, key=cpu_s)


def first_paints(page: Page) -> None:
    paints, rows = [], []
    for _ in range(PAINTS):
        page.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        page.open("#/traces")
        page.find(".rows > .row")
        paints.append(page.wait(lambda: page.run(FIRST_PAINT)))
        rows.append(page.run("return window.firstRow"))
    row(
        "first contentful paint, empty cache, median",
        f"{statistics.median(paints):.0f} ms (worst {max(paints):.0f})",
        "< 300 ms",
    )
    row(
        "first row of the list stands, median",
        f"{statistics.median(rows):.0f} ms (worst {max(rows):.0f})",
        "",
    )


def idle(page: Page, dev: DevXrayd, view: str, seconds: float) -> None:
    page.open(view)
    page.find(".row, .node, tr")
    time.sleep(4)
    pids = [renderer(page), dev.pid]
    before = [cpu_s(pid) for pid in pids]
    time.sleep(seconds)
    shares = [(cpu_s(pid) - was) / seconds * 100 for pid, was in zip(pids, before, strict=True)]
    row(f"CPU of an idle page, {view}", f"{shares[0]:.2f} % page, {shares[1]:.2f} % xrayd", "< 1 %")


def measure_list(page: Page, dev: DevXrayd, seconds: float) -> None:
    first_paints(page)
    page.open("#/traces")
    page.wait(lambda: "1,000 newest" in page.text())
    with long_tasks(page, "scrolling 1,000 traces"):
        wheel(page, ".scroll", seconds, lambda n: 900 if n // 60 % 2 == 0 else -900)
    with traffic(dev), long_tasks(page, f"1,000 traces, {LIVE_PER_S} new a second"):
        time.sleep(seconds)
    with traffic(dev), long_tasks(page, "the same while scrolling"):
        wheel(page, ".scroll", seconds, lambda n: 900 if n // 60 % 2 == 0 else -900)


def measure_map(page: Page, dev: DevXrayd, seconds: float) -> None:
    page.open("#/map")
    said = page.find(".status", "connections").text
    nodes, edges = (int(word) for word in said.split() if word.isdecimal())
    page.wait(lambda: len(page.all(".graph .edge")) == edges)
    with long_tasks(page, f"zooming a map of {nodes} nodes, {edges} edges"):
        wheel(page, ".graph", seconds, lambda n: -100 if n // 20 % 2 == 0 else 100)
    with long_tasks(page, "panning it"):
        drag(page, ".graph", seconds)
    with traffic(dev), long_tasks(page, f"receiving {LIVE_PER_S} traces a second in it"):
        time.sleep(seconds)
    with traffic(dev), long_tasks(page, "the same while zooming"):
        wheel(page, ".graph", seconds, lambda n: -100 if n // 20 % 2 == 0 else 100)


def measure_trace(page: Page, dev: DevXrayd, seconds: float) -> None:
    page.open(f"#/trace/{large_trace(dev)}")
    page.find(".rows > .row", "call 3")
    with long_tasks(page, f"scrolling {SUBSEGMENTS:,} subsegments"):
        wheel(page, ".scroll", seconds, lambda n: 2000 if n // 60 % 2 == 0 else -2000)


def measure_idle(page: Page, dev: DevXrayd, seconds: float) -> None:
    time.sleep(5)  # what is indexed late
    for view in ("#/traces", "#/map", "#/sampling", "#/health"):
        idle(page, dev, view, 2 * seconds)


PARTS = {
    "list": measure_list,
    "map": measure_map,
    "trace": measure_trace,
    "idle": measure_idle,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each kind of use")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp())
    folder = Path(xrayd.web.__file__).parent
    size = sum(one.stat().st_size for one in folder.iterdir() if one.suffix not in (".py", ""))
    row("bytes of the page's files", f"{size:,}", "<= 200,000")
    with DevXrayd(home) as dev, open_browser(dev, home) as page:
        page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        chance = random.Random(1)
        for first in range(0, TRACES, 50):
            dev.put(*(entry(chance, number) for number in range(first, first + 50)))
        for documents in services(chance):
            dev.put(*documents)
        for part in asked.parts or PARTS:
            PARTS[part](page, dev, asked.seconds)
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
