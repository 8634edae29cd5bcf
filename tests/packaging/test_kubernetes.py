"""The manifests as kustomize puts them together, checked against Kubernetes' own schemas."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from xrayd.config_sources import load
from xrayd.spool import dead

BASE = "packaging/kubernetes"
MEBI = 1 << 20


@pytest.fixture(scope="session")
def render(root, tool, tmp_path_factory):
    """Kustomize's output for a directory, as resources."""

    def run(directory) -> list[dict]:
        words = [tool("kubectl"), "kustomize", directory]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False,
            env={"HOME": str(tmp_path_factory.mktemp("home")), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))

    return run


def pick(resources: list[dict], kind: str) -> dict:
    (found,) = (r for r in resources if r["kind"] == kind)
    return found


def daemon_of(workload: dict) -> dict:
    spec = workload["spec"]["template"]["spec"]
    everything = spec["containers"] + spec.get("initContainers", [])
    (found,) = (c for c in everything if c["name"] == "xray-daemon")
    return found


@pytest.fixture(params=[("daemonset", "DaemonSet"), ("example", "Deployment")], ids=lambda p: p[0])
def workload(request, root, render) -> dict:
    directory, kind = request.param
    return pick(render(root / BASE / directory), kind)


@pytest.mark.parametrize("directory", ["daemonset", "example"])
def test_the_schemas_accept_it(directory, root, render):
    validator = pytest.importorskip("kubernetes_validate")
    for resource in render(root / BASE / directory):
        validator.validate(resource, validator.latest_version(), strict=True)


def test_the_schemas_do_refuse_a_misspelt_key(root, render):
    validator = pytest.importorskip("kubernetes_validate")
    daemonset = pick(render(root / BASE / "daemonset"), "DaemonSet")
    daemonset["spec"]["template"]["spec"]["hostPorts"] = True
    with pytest.raises(validator.ValidationError):
        validator.validate(daemonset, validator.latest_version(), strict=True)


def test_limits_are_the_aws_sample_s(workload):
    assert daemon_of(workload)["resources"]["limits"] == {"cpu": "512m", "memory": "64Mi"}


def test_probes_run_the_image_s_own_health_check(workload):
    daemon = daemon_of(workload)
    probes = [daemon[k] for k in daemon if k.endswith("Probe")]
    assert len(probes) >= 2
    for probe in probes:
        assert probe["exec"]["command"] == ["/usr/bin/xray", "healthcheck"]


def test_it_fits_the_restricted_pod_security_standard(workload):
    pod = workload["spec"]["template"]["spec"]
    daemon = daemon_of(workload)
    security = {**pod.get("securityContext", {}), **daemon["securityContext"]}
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 10001
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any(pod.get(k) for k in ("hostNetwork", "hostPID", "hostIPC"))
    assert not any("hostPort" in port for port in daemon["ports"])
    assert not any("hostPath" in volume for volume in pod.get("volumes", []))
    assert pod["automountServiceAccountToken"] is False


def test_daemonset_s_configuration_listens_to_other_pods(root):
    config = yaml.safe_load((root / BASE / "daemonset/config.yaml").read_text())
    assert set(config["Socket"].values()) == {"0.0.0.0:2000"}
    assert config["TotalBufferSizeMB"] * MEBI <= 16 * MEBI


def test_the_spool_stays_below_the_size_at_which_the_pod_is_evicted(root, render):
    daemonset = pick(render(root / BASE / "daemonset"), "DaemonSet")
    (volume,) = (
        volume["emptyDir"]
        for volume in daemonset["spec"]["template"]["spec"]["volumes"]
        if "emptyDir" in volume
    )
    env = {one["name"]: one["value"] for one in daemon_of(daemonset)["env"]}
    config = load({}, env, str(root / BASE / "daemonset/config.yaml")).config
    # Beside the segments: what X-Ray refused for good.
    refused = dead.BYTES_MAX // MEBI
    assert config.spool_max_mb + refused < int(volume["sizeLimit"].removesuffix("Mi")) * 0.9


def test_service_stays_on_the_sender_s_node(root, render):
    service = pick(render(root / BASE / "daemonset"), "Service")
    assert service["spec"]["internalTrafficPolicy"] == "Local"
    assert {p["protocol"] for p in service["spec"]["ports"]} == {"UDP", "TCP"}


def test_sidecar_is_native_and_the_application_knows_its_address(root, render):
    deployment = pick(render(root / BASE / "example"), "Deployment")
    daemon = daemon_of(deployment)
    assert daemon["restartPolicy"] == "Always"
    assert "startupProbe" in daemon
    assert daemon in deployment["spec"]["template"]["spec"]["initContainers"]
    (app,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "AWS_XRAY_DAEMON_ADDRESS", "value": "127.0.0.1:2000"} in app["env"]


def test_hostport_component_opens_the_node_s_port(root, render, tmp_path):
    import shutil

    shutil.copytree(root / BASE, tmp_path / "k")
    (tmp_path / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        "resources: [k/daemonset]\ncomponents: [k/hostport]\n"
    )
    daemon = daemon_of(pick(render(tmp_path), "DaemonSet"))
    assert {(p["protocol"], p["hostPort"]) for p in daemon["ports"]} == {
        ("UDP", 2000),
        ("TCP", 2000),
    }
