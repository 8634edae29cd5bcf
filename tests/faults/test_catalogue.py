"""The list of faults names tests that exist, and leaves no row out."""

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_row_is_made_by_a_test_that_exists() -> None:
    text = (HERE / "README.md").read_text()
    source = "\n".join(path.read_text() for path in HERE.glob("test_*.py"))
    rows: set[int] = set()
    for line in re.findall(r"^\| (E-.*)$", text, re.MULTILINE):
        numbers, _, rest = line.partition(" | ")
        named = [int(number) for number in re.findall(r"E-(\d\d)", numbers)]
        rows |= set(range(named[0], named[-1] + 1))
        for name in re.findall(r"`(test_\w+)`", rest):
            assert f"def {name}(" in source, name
        for name in re.findall(r"`(\w+/\w+\.py)", rest):
            assert (HERE.parent / name).is_file(), name
    assert rows == set(range(1, 63))
