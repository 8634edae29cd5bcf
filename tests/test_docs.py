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
from xrayd.config import load, options

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
    text = scraper.get("/metrics").body.decode()
    scraper.stop()
    served = set(re.findall(r"^# TYPE (xrayd_\w+) (?!.*created)", text, re.MULTILINE))
    served = {name for name in served if not name.endswith("_created")}
    documented = set(re.findall(r"^\| `(xrayd_\w+)", README, re.MULTILINE))
    assert documented == served


def test_the_readmes_two_commands_are_the_ones_ci_runs() -> None:
    run = (ROOT / ".ci" / "run").read_text()
    assert "README" in run
    assert "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/pytest" in README
