"""Groups: named filter expressions that count the traces they match.

Sources: botocore `xray` model; AWS X-Ray Developer Guide, "Configuring groups". Updates affect
later traces only.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from xrayd.dev.answers import invalid
from xrayd.dev.backend import Backend, Members, Request
from xrayd.dev.filters.errors import FilterError
from xrayd.dev.filters.parser import parse
from xrayd.dev.operations.tags import TAGS, put_first_tags
from xrayd.dev.resources import Kind, Resources, changing_resources, reading_resources
from xrayd.dev.rollups import DEFAULT_GROUP
from xrayd.dev.tokens import page

GROUPS_MAX = 25
"""Groups of one account beside the default one (AWS X-Ray endpoints and quotas)."""

_PAGE_GROUPS = 100
_UNIQUE_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_UNIQUE_ID_LENGTH = 52


class Expression(msgspec.Struct):
    """A group's filter expression from an epoch second on; "" for none."""

    since: float
    text: str


class Group(msgspec.Struct):
    """A stored group.

    Attributes:
        name: 1-32 characters, never changed.
        arn: with an id of its own, so that a group of the same name made later differs.
        expressions: the filter expressions it has had, the oldest first, at least one.
        insights_enabled: stored, no effect.
        notifications_enabled: stored, no effect; only with insights.
    """

    name: str
    arn: str
    expressions: list[Expression]
    insights_enabled: bool = False
    notifications_enabled: bool = False

    @property
    def expression(self) -> str:
        """The current filter expression, "" for none."""
        return self.expressions[-1].text

    def changed_within(self, start: float, end: float) -> bool:
        """Whether another expression came into force in a window, epoch seconds."""
        return any(start <= later.since < end for later in self.expressions[1:])


GROUP = Kind("group", Group)


def create_group(backend: Backend, request: Request) -> Members:
    """CreateGroup."""
    name = request["GroupName"]
    expression = _checked(request.get("FilterExpression", ""))
    with changing_resources(backend.store.database) as resources:
        groups = _all_groups(backend, resources)
        if name in groups:
            raise invalid(f"Group {name} already exists.")
        if len(groups) > GROUPS_MAX:
            raise invalid(f"The limit of {GROUPS_MAX} groups is reached: delete one first.")
        unique = "".join(secrets.choice(_UNIQUE_ID_LETTERS) for _ in range(_UNIQUE_ID_LENGTH))
        group = Group(
            name,
            backend.arn(f"group/{name}/{unique}"),
            [Expression(backend.clock(), expression)],
        )
        _set_insights(group, request)
        resources.put(GROUP, name, group)
        put_first_tags(resources, group.arn, request)
    return {"Group": _members(group)}


def get_group(backend: Backend, request: Request) -> Members:
    """GetGroup, by name or ARN."""
    return {"Group": _members(find_group(backend, request))}


def get_groups(backend: Backend, request: Request) -> Members:
    """GetGroups; the default group is always one of them."""
    shown, more = page(
        "GetGroups",
        sorted(load_groups(backend).values(), key=lambda group: group.name),
        key=lambda group: group.name,
        kind=str,
        token=request.get("NextToken"),
        size=_PAGE_GROUPS,
    )
    return {"Groups": [_members(group) for group in shown], **more}


def update_group(backend: Backend, request: Request) -> Members:
    """UpdateGroup; what is not given stays as it is."""
    with changing_resources(backend.store.database) as resources:
        group = _find(_all_groups(backend, resources), request)
        if "FilterExpression" in request:
            if group.name == DEFAULT_GROUP:
                raise invalid("The default group cannot have a filter expression.")
            expression = _checked(request["FilterExpression"])
            if expression != group.expression:
                group.expressions.append(Expression(backend.clock(), expression))
        _set_insights(group, request)
        resources.put(GROUP, group.name, group)
    return {"Group": _members(group)}


def delete_group(backend: Backend, request: Request) -> Members:
    """DeleteGroup, by name or ARN."""
    with changing_resources(backend.store.database) as resources:
        group = _find(_all_groups(backend, resources), request)
        if group.name == DEFAULT_GROUP:
            raise invalid("The default group cannot be deleted.")
        resources.delete(GROUP, group.name)
        resources.delete(TAGS, group.arn)
        resources.delete_sums(group.arn)
    return {}


def load_groups(backend: Backend) -> dict[str, Group]:
    """Every group by name, the default one included."""
    with reading_resources(backend.store.database) as resources:
        return _all_groups(backend, resources)


def expressions_of(groups: dict[str, Group]) -> dict[str, str]:
    """Filter expressions by group name and by group ARN, as filters that name groups want them."""
    return {key: group.expression for group in groups.values() for key in (group.name, group.arn)}


def find_group(backend: Backend, request: Request) -> Group:
    """The group a request names by `GroupName` or `GroupARN`.

    Raises:
        ApiError: `InvalidRequestException` for neither, both, or a group that does not exist.
    """
    return _find(load_groups(backend), request)


def find_optional_group(backend: Backend, request: Request) -> Group:
    """The group a request names, the default one where it names none.

    Raises:
        ApiError: `InvalidRequestException` for both name and ARN, or a group that does not exist.
    """
    if "GroupName" not in request and "GroupARN" not in request:
        request = {"GroupName": DEFAULT_GROUP}
    return find_group(backend, request)


def _all_groups(backend: Backend, resources: Resources) -> dict[str, Group]:
    default = Group(DEFAULT_GROUP, backend.arn(f"group/{DEFAULT_GROUP}"), [Expression(0.0, "")])
    return {DEFAULT_GROUP: default, **resources.all(GROUP)}


def _find(groups: dict[str, Group], request: Request) -> Group:
    name, arn = request.get("GroupName"), request.get("GroupARN")
    if (name is None) == (arn is None):
        raise invalid("Name a group by either GroupName or GroupARN.")
    for group in groups.values():
        if name == group.name or arn == group.arn:
            return group
    raise invalid(f"Group {name or arn} not found.")


def _checked(expression: str) -> str:
    try:
        parse(expression)
    except FilterError as error:
        raise invalid(str(error)) from None
    return expression.strip()


def _set_insights(group: Group, request: Request) -> None:
    wanted = request.get("InsightsConfiguration", {})
    group.insights_enabled = wanted.get("InsightsEnabled", group.insights_enabled)
    group.notifications_enabled = wanted.get("NotificationsEnabled", group.notifications_enabled)
    if group.notifications_enabled and not group.insights_enabled:
        raise invalid("Notifications can be enabled only where insights are.")


def _members(group: Group) -> dict[str, Any]:
    members: dict[str, Any] = {
        "GroupName": group.name,
        "GroupARN": group.arn,
        "InsightsConfiguration": {
            "InsightsEnabled": group.insights_enabled,
            "NotificationsEnabled": group.notifications_enabled,
        },
    }
    if group.expression:
        members["FilterExpression"] = group.expression
    return members
