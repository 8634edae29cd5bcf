"""Requests of the X-Ray API, read by the rules of botocore's own service model.

The model names every operation's path, members, types, lengths, ranges, patterns and enums; nothing
of that is repeated by hand. Only the loader of botocore is used: no session, no client.

Source of the wording of constraint violations: the `ValidationException` texts AWS services share
("1 validation error detected: Value '…' at '…' failed to satisfy constraint: …").
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore.loaders import Loader

from xrayd.dev.answers import ApiError

MILLISECONDS_FROM = 1e11
"""Request timestamps above this are milliseconds, as the X-Ray SDK for Java sends them.

In seconds it would be the year 5138.
"""

_WHOLE_BITS = {"integer": 31, "long": 63}
_SHOWN_MAX = 64


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the model: its name, and its input's shape name (None: takes nothing)."""

    name: str
    input_shape: str | None


class RequestModel:
    """The request side of botocore's `xray` service model."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self._shapes: Mapping[str, Mapping[str, Any]] = model["shapes"]
        self._operations = {
            operation["http"]["requestUri"]: Operation(
                name, operation.get("input", {}).get("shape")
            )
            for name, operation in model["operations"].items()
        }
        self._patterns = {
            name: re.compile(shape["pattern"])
            for name, shape in self._shapes.items()
            if "pattern" in shape
        }

    @property
    def paths(self) -> Mapping[str, Operation]:
        """Every operation by its request path, e.g. `/TraceSegments`."""
        return self._operations

    def read(self, operation: Operation, request: object) -> dict[str, Any]:
        """A request's known members, checked and made plain: timestamps as epoch seconds, nulls
        left out.

        Args:
            operation: what was asked.
            request: the decoded JSON body.

        Raises:
            ApiError: `SerializationException` where a JSON type is wrong, `ValidationException`
                where a constraint of the model does not hold (all violations in one message).
        """
        if not isinstance(request, dict):
            raise ApiError("SerializationException", "the request body is not a JSON object")
        if operation.input_shape is None:
            return {}
        violations: list[str] = []
        members: dict[str, Any] = self._read(operation.input_shape, request, "", violations)
        if violations:
            plural = "" if len(violations) == 1 else "s"
            raise ApiError(
                "ValidationException",
                f"{len(violations)} validation error{plural} detected: {'; '.join(violations)}",
            )
        return members

    def _read(self, name: str, value: object, at: str, violations: list[str]) -> Any:
        shape = self._shapes[name]
        match shape["type"]:
            case "string":
                return self._read_string(name, shape, value, at, violations)
            case "structure":
                return self._read_structure(shape, value, at, violations)
            case "list":
                return self._read_list(shape, value, at, violations)
            case "map":
                return self._read_map(shape, value, at, violations)
            case "boolean":
                if not isinstance(value, bool):
                    raise _wrong_type(at, "a boolean", value)
                return value
            case "timestamp":
                return _read_timestamp(value, at)
            case kind:
                bits = _WHOLE_BITS.get(kind)
                number = _read_number(value, at) if bits is None else _read_whole(value, at, bits)
                _check_range(shape, number, at, violations)
                return number

    def _read_string(
        self, name: str, shape: Mapping[str, Any], value: object, at: str, violations: list[str]
    ) -> str:
        if not isinstance(value, str):
            raise _wrong_type(at, "a string", value)
        _check_length(shape, value, at, violations)
        if name in self._patterns and not self._patterns[name].fullmatch(value):
            violations.append(
                _violation(
                    value, at, f"Member must satisfy regular expression pattern: {shape['pattern']}"
                )
            )
        if "enum" in shape and value not in shape["enum"]:
            listed = ", ".join(shape["enum"])
            violations.append(
                _violation(value, at, f"Member must satisfy enum value set: [{listed}]")
            )
        return value

    def _read_structure(
        self, shape: Mapping[str, Any], value: object, at: str, violations: list[str]
    ) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong_type(at, "an object", value)
        members = {
            name: self._read(member["shape"], value[name], _below(at, name), violations)
            for name, member in shape["members"].items()
            if value.get(name) is not None
        }
        violations.extend(
            _violation(None, _below(at, name), "Member must not be null")
            for name in shape.get("required", ())
            if name not in members
        )
        return members

    def _read_list(
        self, shape: Mapping[str, Any], value: object, at: str, violations: list[str]
    ) -> list[Any]:
        if not isinstance(value, list):
            raise _wrong_type(at, "a list", value)
        _check_length(shape, value, at, violations)
        member = shape["member"]["shape"]
        return [
            self._read(member, one, f"{at}.{number}.member", violations)
            for number, one in enumerate(value, 1)
        ]

    def _read_map(
        self, shape: Mapping[str, Any], value: object, at: str, violations: list[str]
    ) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong_type(at, "an object", value)
        _check_length(shape, value, at, violations)
        return {
            self._read(shape["key"]["shape"], key, at, violations): self._read(
                shape["value"]["shape"], one, f"{at}.{key}.member", violations
            )
            for key, one in value.items()
        }


@cache
def request_model() -> RequestModel:
    """The model of the installed botocore, loaded once."""
    loader = Loader()
    model = loader.load_service_model("xray", "service-2")
    # samplers of OpenTelemetry report all rules at once, which may be more than the 25 the model
    # allows
    model["shapes"]["SamplingStatisticsDocumentList"].pop("max", None)
    return RequestModel(model)


def _check_length(shape: Mapping[str, Any], value: Any, at: str, violations: list[str]) -> None:
    if len(value) < shape.get("min", 0):
        violations.append(
            _violation(
                value, at, f"Member must have length greater than or equal to {shape['min']}"
            )
        )
    if "max" in shape and len(value) > shape["max"]:
        violations.append(
            _violation(value, at, f"Member must have length less than or equal to {shape['max']}")
        )


def _check_range(shape: Mapping[str, Any], value: float, at: str, violations: list[str]) -> None:
    if "min" in shape and value < shape["min"]:
        violations.append(
            _violation(value, at, f"Member must have value greater than or equal to {shape['min']}")
        )
    if "max" in shape and value > shape["max"]:
        violations.append(
            _violation(value, at, f"Member must have value less than or equal to {shape['max']}")
        )


def _read_timestamp(value: object, at: str) -> float:
    seconds = float(_read_number(value, at))
    return seconds / 1000 if abs(seconds) > MILLISECONDS_FROM else seconds


def _read_whole(value: object, at: str, bits: int) -> int:
    number = _read_number(value, at)
    if number != int(number):
        raise _wrong_type(at, "a whole number", value)
    if not -(1 << bits) <= number < 1 << bits:
        raise _wrong_type(at, f"a whole number of {bits + 1} bits", value)
    return int(number)


def _read_number(value: object, at: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong_type(at, "a number", value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong_type(at, "a finite number", value)
    if abs(value) > 1e300:
        raise _wrong_type(at, "a number of reasonable size", value)
    return value


def _wrong_type(at: str, wanted: str, value: object) -> ApiError:
    return ApiError(
        "SerializationException", f"{at or 'the request'} must be {wanted}, not {_shown(value)}"
    )


def _violation(value: object, at: str, constraint: str) -> str:
    shown = "null" if value is None else _shown(value)
    return f"Value {shown} at '{at}' failed to satisfy constraint: {constraint}"


def _below(at: str, name: str) -> str:
    """Where a member is, as AWS writes it: `tags.1.member.value`."""
    member = name[:1].lower() + name[1:]
    return f"{at}.{member}" if at else member


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"
