"""Makes pictures of the views, of the demo: `python tests/web/screenshots.py DIRECTORY`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from browser import DevXrayd, open_browser
from selenium.webdriver.common.keys import Keys


def make(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp())
    with DevXrayd(home, "--demo") as dev, open_browser(dev, home) as page:
        time.sleep(25)  # for something to look at
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            page.open("#/traces")
            page.find(".rows > .row", "shop.example")
            picture(page, directory / f"traces-{scheme}.png")
            page.open("#/traces?filter=service(%22payments.example%22)%20%7B%20fault%20%7D")
            page.find(".rows > .row", "shop.example")
            page.find(".scroll").send_keys(Keys.ARROW_DOWN, Keys.ENTER)
            page.find(".rows > .row", "payments.example").click()
            page.find("button", "Show its map").click()
            page.find(".node")
            picture(page, directory / f"trace-{scheme}.png")
            page.open("#/map?node=orders|AWS::ECS::Container|")
            page.find(".detail .plot .bar")
            time.sleep(1)
            picture(page, directory / f"map-{scheme}.png")
            for view in ("sampling", "health"):
                page.open(f"#/{view}")
                page.find("tr")
                picture(page, directory / f"{view}-{scheme}.png")
        page.resize(360, 740)
        page.prefer("light")
        page.open("#/traces")
        page.find(".rows > .row")
        picture(page, directory / "traces-narrow.png")


def picture(page, path: Path) -> None:
    page.driver.save_screenshot(str(path))
    print(path)


if __name__ == "__main__":
    make(Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots"))
