"""What the embedded endpoint says: an answer's bytes, and the X-Ray API's errors by name.

Source: botocore `xray` model (error shapes and status codes); AWS REST-JSON protocol
(`x-amzn-ErrorType`).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import msgspec

_STATUS = {
    "InvalidRequestException": 400,
    "ValidationException": 400,
    "SerializationException": 400,
    "RuleLimitExceededException": 400,
    "MalformedPolicyDocumentException": 400,
    "InvalidPolicyRevisionIdException": 400,
    "PolicySizeLimitExceededException": 400,
    "PolicyCountLimitExceededException": 400,
    "TooManyTagsException": 400,
    "ResourceNotFoundException": 404,
    "UnknownOperationException": 404,
    "ThrottledException": 429,
    "InternalFailure": 500,
}


class ApiError(Exception):
    """A refusal of the X-Ray API.

    Args:
        code: the error's name as clients know it, e.g. `InvalidRequestException`.
        message: what is wrong and what to do.
        resource: what was not found (`ResourceNotFoundException` and `TooManyTagsException` carry
            it).
    """

    def __init__(self, code: str, message: str, resource: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.resource = resource

    @property
    def status(self) -> int:
        """The HTTP status AWS gives this error."""
        return _STATUS[self.code]


def invalid(message: str) -> ApiError:
    """An `InvalidRequestException`: the request is well formed, but does not make sense."""
    return ApiError("InvalidRequestException", message)


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """One HTTP answer: status, headers (without Content-Length) and a JSON body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def answer(members: dict[str, object] | bytes) -> ApiAnswer:
    """A 200 with these members as its JSON body, or with a body that is JSON already."""
    body = members if isinstance(members, bytes) else msgspec.json.encode(members)
    return ApiAnswer(200, _headers(), body)


def refuse(error: ApiError) -> ApiAnswer:
    """The answer an error becomes: its status, `x-amzn-ErrorType`, and `Message` in the body."""
    members: dict[str, object] = {"Message": error.message}
    if error.resource is not None:
        members["ResourceName"] = error.resource
    return ApiAnswer(
        error.status,
        [*_headers(), ("x-amzn-ErrorType", error.code)],
        msgspec.json.encode(members),
    )


def _headers() -> list[tuple[str, str]]:
    return [("Content-Type", "application/json"), ("x-amzn-RequestId", str(uuid.uuid4()))]
