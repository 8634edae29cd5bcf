"""One xrayd and one browser window for each file of tests."""

from collections.abc import Iterator

import pytest
from browser import DevXrayd, Page, open_browser


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevXrayd]:
    with DevXrayd(tmp_path_factory.mktemp("dev")) as process:
        yield process


@pytest.fixture(scope="module")
def window(dev: DevXrayd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(dev, tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(window: Page) -> Iterator[Page]:
    window.resize(1280, 800)
    yield window
    window.check()
