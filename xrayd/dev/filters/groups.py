"""`group.name` and `group.arn`, replaced by what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from xrayd.dev.filters.errors import FilterError, suggest
from xrayd.dev.filters.lexer import DEPTH_MAX
from xrayd.dev.filters.parser import parse
from xrayd.dev.filters.syntax import And, Expression, GroupTest, Not, Or

EXPANDED_TERMS_MAX = 10_000
"""Terms after substitution: groups that name groups multiply."""

EXPANDED_DEPTH_MAX = 3 * DEPTH_MAX
"""Depth of the tree after substitution; one level of text is up to three of the tree."""


def expand_groups(expression: Expression, groups: Mapping[str, str]) -> Expression:
    """`expression` with every group replaced by that group's own filter expression.

    Args:
        expression: What `parse` returned.
        groups: Filter expressions by group name and by group ARN; "" for a group of all traces.

    Raises:
        FilterError: a group is unknown, contains itself or is no valid expression, or the whole
            grows too large. The position is that of the group in the outermost text.
    """
    return _Expansion(groups).expand(expression, (), 0)


@dataclass
class _Expansion:
    groups: Mapping[str, str]
    terms: int = 0
    parsed: dict[str, Expression] = field(default_factory=dict)

    def expand(self, expression: Expression, path: tuple[GroupTest, ...], depth: int) -> Expression:
        """`expression`, found inside the groups of `path` at this depth, without groups."""
        if depth > EXPANDED_DEPTH_MAX:
            raise _error("groups are nested too deep", path)
        match expression:
            case And(items) | Or(items):
                expanded = tuple(self.expand(item, path, depth + 1) for item in items)
                return replace(expression, items=expanded)
            case Not(item):
                return Not(self.expand(item, path, depth + 1))
        self.terms += 1
        if self.terms > EXPANDED_TERMS_MAX:
            raise _error(f"more than {EXPANDED_TERMS_MAX} terms", path)
        if isinstance(expression, GroupTest):
            return self._expand_group(expression, (*path, expression), depth)
        return expression

    def _expand_group(self, test: GroupTest, path: tuple[GroupTest, ...], depth: int) -> Expression:
        if any(test.value == outer.value for outer in path[:-1]):
            chain = " > ".join(outer.value for outer in path)
            raise _error(f"group {test.value!r} contains itself: {chain}", path)
        expanded = self.expand(self._parse_group(test, path), path, depth + 1)
        return expanded if test.operator == "=" else Not(expanded)

    def _parse_group(self, test: GroupTest, path: tuple[GroupTest, ...]) -> Expression:
        name = test.value
        if name not in self.groups:
            alike = [
                known
                for known in self.groups
                if known.startswith("arn:") == (test.keyword == "group.arn")
            ]
            raise _error(f"unknown group {name!r}", path, suggest(name, alike))
        if name not in self.parsed:
            try:
                self.parsed[name] = parse(self.groups[name])
            except FilterError as error:
                raise _error(f"in group {name!r}: {error.message}", path) from error
        return self.parsed[name]


def _error(message: str, path: tuple[GroupTest, ...], suggestion: str | None = None) -> FilterError:
    """The error at the outermost group of `path`, the one that stands in the text given."""
    if not path:
        return FilterError(message, suggestion=suggestion)
    return FilterError(message, path[0].position, path[0].value, suggestion)
