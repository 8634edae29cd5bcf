"""README, example file and the code say the same."""

import re
from pathlib import Path

import pytest
import yaml
from fakes.documents import make_document
from fakes.factory import XraydFactory
from fakes.process import Xrayd, free_port
from fakes.xray import FakeXRay

from xrayd.cli.config import example_file
from xrayd.config import options
from xrayd.config_sources import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_example_file_explains_every_setting_at_its_default(tmp_path: Path) -> None:
    text = (ROOT / "config.example.yaml").read_text()
    assert text == example_file(), "write it anew: xrayd config --example > config.example.yaml"
    loaded = load({}, {}, str(ROOT / "config.example.yaml"))
    for option in options():
        assert getattr(loaded.config, option.name) == option.default
        assert "config.example.yaml line" in loaded.origins[option.key]
    assert yaml.safe_load(text)["Version"] == 2


@pytest.mark.parametrize("option", options(), ids=lambda option: option.key)
def test_every_variable_is_read(option: object) -> None:
    from xrayd.config import Option

    assert isinstance(option, Option)
    examples = {bool: str(not option.default), int: "7", float: "7.5", tuple: "a,b"}
    text = examples.get(type(option.default), option.choices[0] if option.choices else "text")
    loaded = load({}, {option.variable: text}, "")
    assert getattr(loaded.config, option.name) != option.default or option.choices
    assert loaded.origins[option.key] == option.variable


def test_the_readmes_metrics_are_those_that_are_served(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    port = free_port()
    process = xrayd(config={"Metrics": {"Address": f"127.0.0.1:{port}"}})
    process.send_document(make_document())
    fake_xray.wait_documents(1)
    scraper = Xrayd(home=process.home, port=port)
    served = served_metrics(scraper)
    scraper.stop()
    assert documented_metrics() - dev_metrics(documented_metrics()) == served


def test_the_readmes_metrics_of_dev_are_those_that_are_served(tmp_path: Path) -> None:
    scraper = Xrayd(home=tmp_path)
    env = {"XRAYD_METRICS_ADDRESS": f"127.0.0.1:{scraper.port}"}
    address = ("-b", "127.0.0.1:{port}", "-t", "127.0.0.1:{port}")
    with Xrayd(*address, "dev", "--data", ":memory:", home=tmp_path, env=env):
        served = served_metrics(scraper)
    scraper.stop()
    assert dev_metrics(served) == dev_metrics(documented_metrics())
    assert len(dev_metrics(served)) == 10


def documented_metrics() -> set[str]:
    return set(re.findall(r"^\| `(xrayd_\w+)", README, re.MULTILINE))


def dev_metrics(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("xrayd_dev_")}


def served_metrics(scraper: Xrayd) -> set[str]:
    text = scraper.get("/metrics").body.decode()
    names = set(re.findall(r"^# TYPE (xrayd_\w+) ", text, re.MULTILINE))
    return {name for name in names if not name.endswith("_created")}


def test_the_readmes_two_commands_are_the_ones_ci_runs() -> None:
    run = (ROOT / ".ci" / "run").read_text()
    assert "README" in run
    assert "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/pytest" in README
