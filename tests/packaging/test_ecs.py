"""The ECS files, checked against AWS's model of the service and cfn-lint's of CloudFormation."""

from __future__ import annotations

import json
import subprocess

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator

ACTIONS = {
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
}


@pytest.fixture(params=["task-definition.json", "task-definition-bridge.json"])
def task(request, root) -> dict:
    return json.loads((root / "packaging/ecs" / request.param).read_text())


def by_name(task: dict) -> dict[str, dict]:
    return {c["name"]: c for c in task["containerDefinitions"]}


def refuse(task: dict) -> str:
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    return ParamValidator().validate(task, shape).generate_report()


def test_register_task_definition_accepts_it(task):
    assert refuse(task) == ""


def test_the_model_does_refuse_a_misspelt_key(task):
    task["containerDefinitions"][0]["healthcheck"] = {}
    assert "healthcheck" in refuse(task)


def test_health_check_is_in_the_definition_because_ecs_ignores_the_image_s(task):
    assert by_name(task)["xray-daemon"]["healthCheck"]["command"] == [
        "CMD", "/usr/bin/xray", "healthcheck",
    ]  # fmt: skip


def test_application_starts_after_the_daemon_and_so_stops_before_it(task):
    assert by_name(task)["app"]["dependsOn"] == [
        {"containerName": "xray-daemon", "condition": "HEALTHY"}
    ]


def test_daemon_has_time_to_drain_and_no_rights(task):
    daemon = by_name(task)["xray-daemon"]
    assert 15 <= daemon["stopTimeout"] <= 120
    assert daemon["readonlyRootFilesystem"] is True
    assert daemon["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
    assert daemon["user"] == "10001:10001"
    assert daemon["essential"] is False


def test_application_s_address_fits_the_network_mode(task):
    address = {"awsvpc": "127.0.0.1:2000", "bridge": "xray-daemon:2000"}[task["networkMode"]]
    app = by_name(task)["app"]
    assert {"name": "AWS_XRAY_DAEMON_ADDRESS", "value": address} in app["environment"]
    assert app.get("links", []) == (["xray-daemon"] if task["networkMode"] == "bridge" else [])


def test_both_protocols_of_port_2000_are_mapped(task):
    ports = by_name(task)["xray-daemon"]["portMappings"]
    assert {(p["containerPort"], p["protocol"]) for p in ports} == {(2000, "udp"), (2000, "tcp")}


class Template(yaml.SafeLoader):
    """YAML with CloudFormation's short functions read as plain values."""


Template.add_multi_constructor(
    "!",
    lambda loader, _, node: (
        loader.construct_scalar(node)
        if isinstance(node, yaml.ScalarNode)
        else loader.construct_sequence(node)
    ),
)


@pytest.fixture(scope="session")
def resources(root) -> dict:
    text = (root / "packaging/ecs/cloudformation.yaml").read_text()
    return yaml.load(text, Template)["Resources"]


def test_cfn_lint_finds_nothing(root, tool):
    run = subprocess.run(
        [tool("cfn-lint"), root / "packaging/ecs/cloudformation.yaml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


def test_policy_grants_the_four_calls_and_no_more(resources):
    (statement,) = resources["XRayPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert set(statement["Action"]) == ACTIONS
    assert len(statement["Action"]) == len(ACTIONS)


def test_only_tasks_of_the_own_account_get_the_role(resources):
    (statement,) = resources["TaskRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": "AWS::AccountId"}


def test_template_and_task_definition_say_the_same(resources, root):
    """Every key of the JSON's containers stands in the template, capitalised, and no other."""
    plain = json.loads((root / "packaging/ecs/task-definition.json").read_text())
    template = resources["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    for ours, theirs in zip(plain["containerDefinitions"], template, strict=True):
        assert {k[0].upper() + k[1:] for k in ours} == set(theirs)
    daemon = template[0]
    assert daemon["HealthCheck"]["Command"] == ["CMD", "/usr/bin/xray", "healthcheck"]
    assert template[1]["DependsOn"] == [{"ContainerName": "xray-daemon", "Condition": "HEALTHY"}]
