"""`xrayd traces` and `xrayd trace` against a running `xrayd dev`."""

import json
import re

import pytest
from shell import put, run, run_on_terminal, running_dev, segment, url_of

EVIL = "\x1b[31mred\x07\u202e\r\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def shop():
    """A segment that failed in a call, one that is fine, one that is evil."""
    failed = segment(
        name="shop",
        user="ada",
        origin="AWS::ECS::Container",
        http={
            "request": {"method": "POST", "url": "http://shop.example/orders"},
            "response": {"status": 503},
        },
    )
    start = failed["start_time"]
    failed["subsegments"] = [
        {
            "id": "aaaaaaaaaaaaaaaa",
            "name": "payments",
            "namespace": "remote",
            "start_time": start + 0.02,
            "end_time": start + 0.05,
            "throttle": True,
            "error": True,
            "subsegments": [
                {
                    "id": "bbbbbbbbbbbbbbbb",
                    "name": "waiting",
                    "start_time": start + 0.03,
                    "in_progress": True,
                }
            ],
        }
    ]
    evil = segment(
        name="evil", user=EVIL, http={"request": {"method": EVIL, "url": f"http://x/{EVIL}"}}
    )
    return {"failed": failed, "fine": segment(name="fine"), "evil": evil}


@pytest.fixture(scope="module")
def dev(home, shop):
    with running_dev(home) as process:
        put(process, *map(json.dumps, shop.values()))
        yield process


@pytest.fixture
def ask(dev, home):
    def ask(*args, **env):
        return run(args[0], "--endpoint-url", url_of(dev), *args[1:], home=home, **env)

    return ask


def test_the_table_says_in_words_what_failed(ask, shop):
    result = ask("traces", 'service("shop")')
    assert result.code == 0
    title, row = result.out.splitlines()
    assert title.split() == [
        "TIME", "TRACE", "STATUS", "DURATION", "METHOD", "URL", "USER", "SERVICES",
    ]  # fmt: skip
    assert shop["failed"]["trace_id"] in row
    for part in ("✗ FAULT 503", "100 ms", "POST", "http://shop.example/orders", "ada"):
        assert part in row
    assert "shop → payments" in row
    assert "\x1b" not in result.out


def test_json_lines_are_the_apis_summaries(ask, shop):
    result = ask("traces", "--json", "fault")
    (summary,) = map(json.loads, result.out.splitlines())
    assert summary["Id"] == shop["failed"]["trace_id"]
    assert summary["HasFault"] is True


def test_a_limit_and_a_time_narrow_the_list(ask):
    result = ask("traces", "--limit", "1", "--json")
    assert len(result.out.splitlines()) == 1
    assert "more than 1" in result.err
    result = ask("traces", "--start", "2001-01-01T00:00Z", "--end", "2001-01-02T00:00:00+01:00")
    assert (result.code, result.out) == (0, "")
    assert "no trace" in result.err


def test_a_group_narrows_the_list(ask, dev, shop):
    body = json.dumps({"GroupName": "failing", "FilterExpression": "fault OR throttle"})
    assert dev.post("/CreateGroup", body).status == 200
    result = ask("traces", "--group", "failing", "--json", 'service("shop") OR service("fine")')
    (summary,) = map(json.loads, result.out.splitlines())
    assert summary["Id"] == shop["failed"]["trace_id"]
    assert ask("traces", "--group", "nobody").code == 1


@pytest.mark.parametrize(
    ("expression", "position", "message"),
    [
        ('service("shop" {fault}', 15, "to close service("),
        ("falt", 0, 'did you mean "fault"?'),
        ("日本 = 1", None, "position 0"),
        ('group.name = "nobody"', 0, "unknown group"),
    ],
)
def test_a_wrong_filter_is_pointed_at(ask, expression, position, message):
    result = ask("traces", expression)
    assert (result.code, result.out) == (1, "")
    assert message in result.err
    shown, caret = result.err.splitlines()[-2:]
    assert shown == f"  {expression}"
    assert caret.endswith("^")
    if position is not None:
        assert caret == " " * (2 + position) + "^"


@pytest.mark.parametrize("args", [("--last", "5x"), ("--start", "noon"), ("--limit", "0"),
                                  ("--last", "1h", "--start", "0")])  # fmt: skip
def test_senseless_options_are_refused_by_name(ask, args):
    result = ask("traces", *args)
    assert result.code == 2
    assert args[0] in result.err


def test_nobody_listening_is_said_with_the_address(home):
    result = run("-t", "127.0.0.1:1", "traces", home=home)
    assert result.code == 1
    assert "http://127.0.0.1:1" in result.err
    result = run("traces", home=home, XRAYD_SOCKET_TCP_ADDRESS="0.0.0.0:1")
    assert "http://127.0.0.1:1" in result.err


def test_the_daemons_flag_names_the_endpoint_too(dev, home):
    result = run("-t", f"127.0.0.1:{dev.port}", "traces", "--json", home=home)
    assert len(result.out.splitlines()) == 3


def test_a_trace_is_drawn_to_scale(ask, shop):
    result = ask("trace", shop["failed"]["trace_id"], COLUMNS="100")
    assert result.code == 0
    lines = result.out.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert "POST http://shop.example/orders" in lines
    rows = {line.split("|")[0].split()[0]: line for line in lines if line.endswith("|")}
    assert "✗ FAULT 503" in rows["shop"]
    assert "100 ms" in rows["shop"]
    assert "~ THROTTLE" in rows["payments"] or "~ THROTTLE" in result.out
    bars = {line.split("|")[0].strip(): line.split("|")[1] for line in lines if line.endswith("|")}
    width = {len(bar) for bar in bars.values()}
    assert len(width) == 1
    whole = next(bar for name, bar in bars.items() if name.startswith("shop"))
    assert set(whole) == {"█"}
    call = next(bar for name, bar in bars.items() if name.startswith("payments [remote]"))
    cells = len(whole)
    assert call.index("█") == pytest.approx(0.2 * cells, abs=1.5)
    assert call.count("█") == pytest.approx(0.3 * cells, abs=1.5)
    waiting = next(bar for name, bar in bars.items() if name.startswith("waiting"))
    assert "in progress" in next(name for name in bars if name.startswith("waiting"))
    assert waiting.endswith("▒")
    assert "payments  remote  (inferred)" in lines


def test_a_narrow_terminal_gets_narrow_lines(ask, shop):
    result = ask("trace", shop["failed"]["trace_id"], COLUMNS="45")
    lines = result.out.partition("\n\n")[2].splitlines()
    assert len(lines) > 3
    assert all(len(line) <= 45 for line in lines)


def test_a_trace_is_given_raw(ask, shop):
    result = ask("trace", "--json", shop["fine"]["trace_id"].replace("1-", "", 1).replace("-", ""))
    (trace,) = json.loads(result.out)["Traces"]
    assert trace["Id"] == shop["fine"]["trace_id"]


def test_an_unknown_trace_and_a_wrong_id_are_told_apart(ask):
    result = ask("trace", "1-00000000-000000000000000000000000")
    assert (result.code, "there is no trace" in result.err) == (1, True)
    result = ask("trace", "nonsense")
    assert (result.code, "no trace id" in result.err) == (1, True)


def test_colours_are_for_terminals_that_want_them(dev, home, shop):
    command = ("trace", "--endpoint-url", url_of(dev), shop["failed"]["trace_id"])
    colored = run_on_terminal(*command, home=home)
    assert "\x1b[31m" in colored
    assert "\x1b" not in run_on_terminal(*command, home=home, NO_COLOR="1")
    assert "\x1b" not in run_on_terminal(*command, "--no-color", home=home)
    assert re.sub(r"\x1b\[\d+m", "", colored) == run_on_terminal(*command, "--no-color", home=home)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_nothing_in_a_document_steers_the_terminal(ask, shop, options):
    trace_id = shop["evil"]["trace_id"]
    for command in (("traces", 'service("evil")'), ("trace", trace_id)):
        text = ask(*command, *options).out
        assert text
        assert not [c for c in text if not c.isprintable() and c != "\n"]


def test_an_encoding_without_signs_gets_plain_ones(ask, shop):
    result = ask("trace", shop["failed"]["trace_id"], PYTHONIOENCODING="ascii")
    assert result.code == 0
    assert result.out.isascii()
    assert "x FAULT 503" in result.out
