"""A person at a browser: Debian's Chromium, headless, in front of a real xrayd."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fakes.process import PATIENCE_S, Xrayd
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

Found = TypeVar("Found")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Runs before the page's own scripts: a test wants to know what the page was kept from.
WATCH = """
window.seen = [];
document.addEventListener("securitypolicyviolation", (e) => seen.push("csp " + e.blockedURI));
window.addEventListener("error", (e) => seen.push("error " + e.message));
window.addEventListener("unhandledrejection", (e) => seen.push("rejection " + e.reason));
window.alert = () => seen.push("alert");
window.owned = () => seen.push("owned");
"""

# In one call: a map has hundreds of elements, and a page does not stand still meanwhile.
FIND = r"""
const isSeen = (e) => e.getClientRects().length
  && e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
const textOf = (e) => (e.innerText ?? e.textContent).replace(/\s+/g, " ");
return [...document.querySelectorAll(arguments[0])]
  .find((e) => isSeen(e) && textOf(e).includes(arguments[1]));
"""


class DevXrayd(Xrayd):
    """`xrayd dev`; `args` are those behind the word `dev`."""

    def __init__(self, home: Path, *args: str, data: str = ":memory:", **options: Any) -> None:
        address = "127.0.0.1:{port}"
        flags = ("-b", address, "-t", address, "dev", "--data", data)
        super().__init__(*flags, *args, home=home, **options)

    def call(self, path: str, **members: Any) -> dict[str, Any]:
        answer = self.post(path, json.dumps(members))
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def put(self, *documents: dict[str, Any]) -> None:
        texts = [json.dumps(one) for one in documents]
        answer = self.call("/TraceSegments", TraceSegmentDocuments=texts)
        assert answer["UnprocessedTraceSegments"] == []


class Page:
    """A browser window and what somebody sees and does in it."""

    def __init__(self, driver: Chrome, xrayd: Xrayd) -> None:
        self.driver = driver
        self._xrayd = xrayd

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._xrayd.port}/"

    def open(self, address: str = "") -> None:
        """Load the page anew at a view's address."""
        self.driver.get("about:blank")
        self.driver.get(self.url + address)

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`, as the system would say."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", selector
        )

    def run(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(script, *args)

    def wait(self, condition: Callable[[], Found], what: str = "") -> Found:
        """The first true value of a condition."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if found := condition():
                    return found
            except StaleElementReferenceException:
                pass
            assert time.monotonic() < deadline, f"{what}\n{self.text()[:2000]}"
            time.sleep(0.05)

    def find(self, selector: str, text: str = "") -> WebElement:
        """The first visible element of a selector that has a text, once there is one."""
        return self.wait(lambda: self.run(FIND, selector, text), f"no {selector} with {text!r}")

    def see(self, text: str) -> None:
        """Wait until a text can be read."""
        self.wait(lambda: text in self.text(), f"{text!r} is not seen")

    def text(self) -> str:
        return self.run("return document.body.innerText")

    def active(self) -> WebElement:
        return self.driver.switch_to.active_element

    def check(self) -> None:
        """Nothing was blocked, nothing failed, nothing ran that came with the data."""
        assert self.run("return window.seen || []") == []
        wrong = [
            entry
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and "the server responded with a status of 400"
            not in entry["message"] and "ERR_CONNECTION" not in entry["message"]
        ]  # fmt: skip
        assert wrong == []


@contextmanager
def open_browser(xrayd: Xrayd, home: Path) -> Iterator[Page]:
    """A window of a new profile; skips the test where there is no browser."""
    browser, service = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or service is None:
        pytest.skip("needs chromium and chromedriver")
    options = ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={home / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(service))
    try:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        page = Page(driver, xrayd)
        page.resize(1280, 800)
        yield page
    finally:
        driver.quit()
