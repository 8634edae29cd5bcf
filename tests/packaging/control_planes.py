"""What `aws` and `kubectl` speak to: ECS and a cluster, as far as registering something goes.

Both check what they are sent as the service would: by AWS's model of ECS and its signature, by
Kubernetes' own schemas.
"""

from __future__ import annotations

from typing import Any

import botocore.session
import kubernetes_validate
from botocore.validate import ParamValidator
from fakes.http1 import HttpServer, Request
from fakes.sigv4 import Credential, verify
from fakes.verdict import Verdict
from fakes.xray import ACCESS_KEY, SECRET_KEY


class FakeEcs(HttpServer):
    """Takes RegisterTaskDefinition; `registered` is what it took."""

    def __init__(self) -> None:
        super().__init__()
        self.registered: list[dict[str, Any]] = []

    def usual(self, request: Request) -> Verdict:
        signature = verify(
            request.method, request.target, request.headers, request.body,
            credentials={ACCESS_KEY: Credential(SECRET_KEY)}, service="ecs", now=self.now(),
        )  # fmt: skip
        if not signature.ok:
            return Verdict(status=403, error="InvalidSignatureException", message=signature.detail)
        model = botocore.session.get_session().get_service_model("ecs")
        target = f"{model.metadata['targetPrefix']}.RegisterTaskDefinition"
        if request.header("x-amz-target") != target:
            return Verdict(status=400, error="UnknownOperationException")
        task = request.json()
        shape = model.operation_model("RegisterTaskDefinition").input_shape
        refusal = ParamValidator().validate(task, shape).generate_report()
        if refusal:
            return Verdict(status=400, error="ClientException", message=refusal)
        self.registered.append(task)
        arn = f"arn:aws:ecs:us-east-1:123456789012:task-definition/{task['family']}:1"
        return Verdict(
            body={"taskDefinition": {"family": task["family"], "taskDefinitionArn": arn}}
        )


KINDS = {
    "v1": {"serviceaccounts": "ServiceAccount", "services": "Service", "configmaps": "ConfigMap"},
    "apps/v1": {"daemonsets": "DaemonSet", "deployments": "Deployment"},
}


class FakeCluster(HttpServer):
    """An empty cluster that takes the kinds above; `created` is what it took."""

    def __init__(self) -> None:
        super().__init__()
        self.created: list[dict[str, Any]] = []
        self._documents = dict(_discovery())

    def usual(self, request: Request) -> Verdict:
        if request.path in self._documents:
            return Verdict(body=self._documents[request.path])
        if request.method != "POST":
            return _refuse(404, "NotFound", f"no {request.path}")
        resource = request.json()
        try:
            kubernetes_validate.validate(
                resource, kubernetes_validate.latest_version(), strict="Strict" in request.query
            )
        except kubernetes_validate.ValidationError as error:
            return _refuse(422, "Invalid", str(error))
        self.created.append(resource)
        return Verdict(status=201, body=resource)


def _refuse(status: int, reason: str, message: str) -> Verdict:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}
    return Verdict(status=status, body={**body, "reason": reason, "message": message})


def _discovery():
    """Path -> the document in which kubectl looks for what the cluster has."""
    yield "/api", {"kind": "APIVersions", "versions": ["v1"]}
    version = {"groupVersion": "apps/v1", "version": "v1"}
    group = {"name": "apps", "versions": [version], "preferredVersion": version}
    yield "/apis", {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}
    paths = {}
    for version, kinds in KINDS.items():
        group, _, number = version.rpartition("/")
        path = f"/apis/{version}" if group else f"/api/{version}"
        resources = [
            {"name": name, "kind": kind, "namespaced": True, "verbs": ["create", "get", "patch"]}
            for name, kind in kinds.items()
        ]
        yield path, {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        # That it checks fields itself; kubectl asks for this before it leaves that to the cluster.
        checks = {"parameters": [{"name": "fieldValidation", "in": "query"}]}
        patches = {
            f"{path}/{kind}": {"patch": {"x-kubernetes-group-version-kind":
                {"group": group, "version": number, "kind": kind}, **checks}}
            for kind in kinds.values()
        }  # fmt: skip
        yield f"/openapi/v3{path}", {"openapi": "3.0.0", "paths": patches}
        paths[path[1:]] = {"serverRelativeURL": f"/openapi/v3{path}"}
    yield "/openapi/v3", {"paths": paths}
