"""`xrayd sampling`: the rules with their live state, and which of them takes a request."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from collections.abc import Callable, Sequence

import click
import msgspec

from xrayd.cli.flags import CommandLine
from xrayd.cli.healthcheck import listen_address
from xrayd.cli.terminal import cells, fit, tame
from xrayd.config_sources import load, read_rules_file
from xrayd.errors import ConfigError
from xrayd.logs import printable
from xrayd.sampling.broker import Broker
from xrayd.sampling.matching import (
    Dialect,
    MatchRequest,
    RuleExplanation,
    explain,
    host_and_path,
)
from xrayd.sampling.rule import SamplingRule
from xrayd.sampling.rulestate import RuleStatistics
from xrayd.sampling.view import View, decode_view, view_of

_SECONDS = 5.0
_LONGEST = 2_000  # of a line; six patterns and what they failed to match fit
_NO_CLIENT_ID = "0" * 24
_FAMILIES = {
    "sdk": "X-Ray SDKs",
    "otel": "OpenTelemetry JS",
    "adot": "ADOT Python",
    "daemon": "xrayd itself",
}


# Taken before the subcommand's name and behind it.
_rules_file_option = click.option(
    "--rules-file", default=None, help="Look at this rules file; ask no running xrayd."
)


@click.group("sampling")
@_rules_file_option
@click.pass_context
def sampling_command(context: click.Context, rules_file: str | None) -> None:
    """Show the sampling rules, and explain which of them takes a request.

    A running xrayd is asked; where there is none, the file that Sampling.RulesFile names is read.
    """
    line = context.obj
    assert isinstance(line, CommandLine)
    context.obj = lambda own: _find_view(line, own or rules_file)


@sampling_command.command("rules")
@_rules_file_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def list_rules(
    find_view: Callable[[str | None], View], *, rules_file: str | None, as_json: bool
) -> None:
    """List the rules in the order they are tried, with what is in force and has happened."""
    view = find_view(rules_file)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(view), indent=2))
        return
    source = "xrayd's own" if view.is_authority else "AWS's"
    age = "not known yet" if view.rules_age_s is None else f"{view.rules_age_s:.0f} s old"
    click.echo(
        f"{len(view.rules)} rules, {source}, {age}; {view.clients} clients"
        f"{'' if view.applied == 'off' else f'; xrayd itself samples: {view.applied}'}"
    )
    rows = [
        ("PRIORITY", "RULE", "RATE", "RESERVOIR", "QUOTA", "HELD", "CLIENTS", "REQUESTS",
         "SAMPLED", "BORROWED", "MATCHES"),
        *(_row(each.state, _conditions(each.rule)) for each in view.rules),
    ]  # fmt: skip
    widths = [max(cells(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        shown = [
            fit(cell, width) if column == 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        click.echo("  ".join([*shown, row[-1]]).rstrip())


@sampling_command.command("explain")
@click.option("--service", default=None, help="Service name.")
@click.option("--url", default=None, help="URL, or a path that begins with /.")
@click.option("--method", default=None, help="HTTP method.")
@click.option("--host", default=None, help="Host header, instead of the URL's.")
@click.option("--type", "service_type", default=None, help="Service type, as AWS::EC2::Instance.")
@click.option("--resource-arn", default=None, help="ARN of the resource.")
@click.option(
    "--attribute", "pairs", multiple=True, metavar="KEY=VALUE", help="A span's attribute; repeat."
)
@click.option(
    "--client",
    "families",
    multiple=True,
    type=click.Choice(list(_FAMILIES)),
    help="Whose reading of the rules; by default sdk, otel, adot, and daemon if xrayd samples.",
)
@_rules_file_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def explain_request(
    find_view: Callable[[str | None], View],
    *,
    rules_file: str | None,
    service: str | None,
    url: str | None,
    method: str | None,
    host: str | None,
    service_type: str | None,
    resource_arn: str | None,
    pairs: Sequence[str],
    families: Sequence[str],
    as_json: bool,
) -> None:
    """Name the rule that takes a request, the rate in force, and why the others do not."""
    url_host, path = host_and_path(url)
    if url and path is None:
        raise ConfigError(f"--url {url}: write a whole URL, or a path that begins with /")
    request = MatchRequest(
        service_name=service,
        service_type=service_type,
        host=host or url_host,
        http_method=method,
        url_path=path,
        resource_arn=resource_arn,
        attributes=dict(_pair(each) for each in pairs),
    )
    view = find_view(rules_file)
    if not view.rules:
        raise ConfigError("the sampling rules are not known yet: AWS has not given them")
    states = {each.state.rule_name: each.state for each in view.rules}
    found = {
        family: explain(
            request if host else _as_seen_by(family, request),
            [each.rule for each in view.rules],
            Dialect(family),
        )
        for family in families or _asked(view)
    }
    if as_json:
        shown = {family: _as_json(rules, states) for family, rules in found.items()}
        click.echo(json.dumps(shown, indent=2))
        return
    for family, rules in found.items():
        _print_explanation(_FAMILIES[family], rules, states)


def _as_seen_by(family: str, request: MatchRequest) -> MatchRequest:
    """OpenTelemetry JS reads `server.address`, which has no port; the others the Host header."""
    if family != Dialect.OTEL or request.host is None:
        return request
    return msgspec.structs.replace(request, host=re.sub(r":\d*$", "", request.host))


def _asked(view: View) -> list[str]:
    """The families that decide by these rules: xrayd is one where it samples itself."""
    return [family for family in _FAMILIES if family != "daemon" or view.applied != "off"]


def _find_view(line: CommandLine, rules_file: str | None) -> View:
    """What a running xrayd says, or a rules file.

    Raises:
        ConfigError: there is neither.
    """
    if rules_file:
        return _view_of_file(rules_file)
    try:
        return _ask(*listen_address(line, os.environ))
    except (OSError, UnicodeError) as error:  # the latter from a host name that is none
        configured = load(line.values, os.environ, line.config_path).config.sampling_rules_file
        if configured:
            return _view_of_file(configured)
        raise ConfigError(
            f"no xrayd answers ({error}); start it, or name a file with --rules-file"
        ) from error


def _ask(host: str, port: int) -> View:
    """What the running xrayd says.

    Raises:
        OSError: nobody listens there.
        UnicodeError: its name cannot be one.
        ConfigError: it is no xrayd, or has nothing to say.
    """
    connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    try:
        connection.request("GET", "/sampling", headers={"Host": f"localhost:{port}"})
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise ConfigError(f"tcp {host}:{port} is no xrayd") from error
    finally:
        connection.close()
    if answer.status != 200:
        text = printable(body[:200].decode("latin-1").strip(), 200)
        raise ConfigError(f"tcp {host}:{port} answered {answer.status}: {text}")
    try:
        return decode_view(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"tcp {host}:{port} is no xrayd of this version") from error


def _view_of_file(path: str) -> View:
    now = time.time()
    broker = Broker(_NO_CLIENT_ID, is_authority=True)
    broker.absorb_rules(read_rules_file(path), now)
    return view_of(broker, now, "off")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--attribute {text}: write KEY=VALUE")
    return key, value


def _row(state: RuleStatistics, conditions: str) -> tuple[str, ...]:
    return (
        str(state.priority),
        tame(state.rule_name),
        f"{state.fixed_rate:g}",
        str(state.reservoir_size),
        "-" if state.quota is None else str(state.quota),
        str(state.handed_out),
        str(state.clients),
        str(state.requests),
        str(state.sampled),
        str(state.borrowed),
        tame(conditions, _LONGEST),
    )


def _conditions(rule: SamplingRule) -> str:
    names = ("service", "type", "host", "method", "path", "arn")
    told = [
        f"{name}={pattern}"
        for name, pattern in zip(names, rule.matchers, strict=True)
        if pattern != "*"
    ]
    told += [f"attributes.{key}={pattern}" for key, pattern in rule.attributes.items()]
    return " ".join(told) or "everything"


def _in_force(state: RuleStatistics) -> str:
    quota = (
        f"no quota in force, 1 request a second borrowed, of a reservoir of {state.reservoir_size}"
        if state.quota is None and state.reservoir_size
        else f"quota {state.quota or 0} requests a second"
    )
    return f"{quota}, then {state.fixed_rate:.4g} of the rest"


def _print_explanation(
    family: str, rules: Sequence[RuleExplanation], states: dict[str, RuleStatistics]
) -> None:
    decider = next((each.rule.rule_name for each in rules if each.decides), None)
    if decider is None:
        click.echo(f"{family}: no rule")
    else:
        click.echo(f"{family}: {tame(decider)} ({_in_force(states[decider])})")
    for each in rules:
        line = f"  {each.rule.priority:>5}  {each.rule.rule_name}: {_verdict(each)}"
        click.echo(tame(line, _LONGEST))


def _verdict(each: RuleExplanation) -> str:
    if each.decides:
        return "takes it"
    if each.ignored is not None:
        return f"left out by this client for its {each.ignored}"
    if each.matches:
        return "would match, but comes later"
    return "; ".join(
        f"{failure.field} {failure.pattern} does not match"
        f" {'a request without one' if failure.value is None else failure.value}"
        for failure in each.failed
    )


def _as_json(
    rules: Sequence[RuleExplanation], states: dict[str, RuleStatistics]
) -> dict[str, object]:
    decider = next((each.rule.rule_name for each in rules if each.decides), None)
    return {
        "rule": decider,
        "in_force": None if decider is None else msgspec.to_builtins(states[decider]),
        "rules": [
            {
                "rule": each.rule.rule_name,
                "decides": each.decides,
                "matches": each.matches,
                "ignored": each.ignored,
                "failed": msgspec.to_builtins(each.failed),
            }
            for each in rules
        ],
    }
