"""Tags of groups and sampling rules.

Source: botocore `xray` model: at most 50 tags to a resource, keys case-sensitive, `aws:` reserved.
"""

from __future__ import annotations

from typing import Any

from xrayd.dev.answers import ApiError, invalid
from xrayd.dev.backend import Backend, Members, Request
from xrayd.dev.resources import Kind, Resources, changing_resources, reading_resources
from xrayd.dev.tokens import page

TAGS_MAX = 50
"""Tags of one resource."""

TAGS = Kind("tags", dict[str, str])
"""The tags of a resource, by its ARN."""

_PAGE_TAGS = 50
_TAGGED_KINDS = ("group", "sampling-rule")


def tag_resource(backend: Backend, request: Request) -> Members:
    """TagResource: adds tags, replacing values of keys that exist."""
    arn = request["ResourceARN"]
    with changing_resources(backend.store.database) as resources:
        _expect_tagged(backend, resources, arn)
        stored = resources.get(TAGS, arn) or {}
        tags = {**stored, **_checked(request["Tags"])}
        if len(tags) > TAGS_MAX:
            raise ApiError(
                "TooManyTagsException", f"A resource can have at most {TAGS_MAX} tags.", arn
            )
        resources.put(TAGS, arn, tags)
    return {}


def untag_resource(backend: Backend, request: Request) -> Members:
    """UntagResource: removes tags; keys that are not there are no error."""
    arn = request["ResourceARN"]
    with changing_resources(backend.store.database) as resources:
        _expect_tagged(backend, resources, arn)
        tags = resources.get(TAGS, arn) or {}
        for key in request["TagKeys"]:
            tags.pop(key, None)
        resources.put(TAGS, arn, tags)
    return {}


def list_tags_for_resource(backend: Backend, request: Request) -> Members:
    """ListTagsForResource, sorted by key."""
    arn = request["ResourceARN"]
    with reading_resources(backend.store.database) as resources:
        _expect_tagged(backend, resources, arn)
        tags = resources.get(TAGS, arn) or {}
    shown, more = page(
        "ListTagsForResource",
        sorted(tags.items()),
        key=lambda tag: tag[0],
        kind=str,
        token=request.get("NextToken"),
        size=_PAGE_TAGS,
    )
    return {"Tags": [{"Key": key, "Value": value} for key, value in shown], **more}


def put_first_tags(resources: Resources, arn: str, request: Request) -> None:
    """Store the `Tags` that a Create operation brought along.

    Raises:
        ApiError: `InvalidRequestException`, too many tags or a reserved key.
    """
    tags = _checked(request.get("Tags", []))
    if len(tags) > TAGS_MAX:
        raise invalid(f"A resource can have at most {TAGS_MAX} tags.")
    if tags:
        resources.put(TAGS, arn, tags)


def _checked(tags: list[dict[str, str]]) -> dict[str, str]:
    for tag in tags:
        if tag["Key"].lower().startswith("aws:"):
            raise invalid(f"Tag key {tag['Key']} begins with aws:, which is reserved.")
    return {tag["Key"]: tag["Value"] for tag in tags}


def _expect_tagged(backend: Backend, resources: Resources, arn: str) -> None:
    """Groups and rules know their ARNs; defaults exist without being stored."""
    prefix, _, path = arn.rpartition(":")
    kind, _, rest = path.partition("/")
    name = rest.partition("/")[0]
    if prefix == backend.arn("").rstrip(":") and kind in _TAGGED_KINDS:
        stored = resources.get(Kind(kind, dict[str, Any]), name)
        known = backend.arn(f"{kind}/{name}")
        if stored is not None and kind == "group":
            known = stored["arn"]  # ends in an id of the group's own
        if arn == known and (stored is not None or name == "Default"):
            return
    raise ApiError("ResourceNotFoundException", "The resource was not found.", arn)
