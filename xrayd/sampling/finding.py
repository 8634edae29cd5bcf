"""Which rule takes a root segment: most roots are of a kind that was seen before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from xrayd.sampling.document import Document
from xrayd.sampling.matching import Dialect, Matcher, host_and_path
from xrayd.sampling.rule import DEFAULT_RULE_NAME, SamplingRule

_REMEMBERED_MAX = 4_096
"""Roots, and as many kinds of them, whose rule is remembered."""

_LONGEST = 256
"""A root with traits of more characters is matched anew every time, so that memory stays small."""

_Traits = tuple[str, str, str, str, str]
"""What rules look at in a root segment: name, origin, URL, method and resource ARN; "" for what is
absent.
"""


class RuleFinder:
    """Finds rules by name, in the daemon's own dialect.

    Of a URL with an id in it, which is new every time, only as much can matter as the longest
    pattern has before its star; so a root is known by its traits up to there. And if that is new,
    what matters is only as much as the longest pattern that takes it has: all with that beginning
    are of one kind.
    """

    def __init__(self, rules: Iterable[SamplingRule]) -> None:
        """Make ready for a set of rules."""
        self._matcher = Matcher(rules, Dialect.DAEMON)
        heads = _heads(rule.url_path for rule in self._matcher.rules)
        self._span = None if heads is None else 1 + max(map(len, heads))
        self._match_head = None if heads is None else _compile_heads(heads)
        self._by_traits: dict[_Traits, str] = {}
        self._by_kind: dict[_Traits, str] = {}

    def find(self, root: Document) -> str:
        """The name of the rule that takes a root; Default's where none does."""
        request = root.http.request if root.http is not None else None
        if request is None:
            url = method = ""
        else:
            url, method = request.url, request.method
            if self._span is not None:
                # Behind a scheme of four or five letters; others are not worth looking for.
                authority_at = url.find("://", 4, 8) + 3
                if authority_at > 2 and (path_at := url.find("/", authority_at)) > 0:
                    url = url[: path_at + self._span]
        traits = root.name, root.origin, url, method, root.resource_arn
        return self._by_traits.get(traits) or self._find(traits)

    def _find(self, traits: _Traits) -> str:
        name, origin, url, method, resource_arn = traits
        kind = name, origin, self._cut(url), method, resource_arn
        found = self._by_kind.get(kind)
        if found is None:
            found = self._match(traits)
            _remember(self._by_kind, kind, found)
        _remember(self._by_traits, traits, found)
        return found

    def _match(self, traits: _Traits) -> str:
        name, origin, url, method, resource_arn = traits
        host, path = host_and_path(url)
        found = self._matcher.find(
            (name or None, origin or None, host, method or None, path, resource_arn or None)
        )
        return DEFAULT_RULE_NAME if found is None else found.rule_name

    def _cut(self, url: str) -> str:
        """A URL up to where no rule looks any further.

        One character more than the pattern has tells a path that goes on from one that ends there.
        What comes behind a `?` is no path, but to keep some of it does no harm.
        """
        if self._match_head is None or not url.isascii():
            return url
        authority_at = url.find("://") + 3
        path_at = url.find("/", authority_at)
        if authority_at < 4 or path_at < 0:
            return url
        url = url.lower()
        head = self._match_head(url, path_at)
        return url if head is None else url[: head.end() + 1]


def _heads(patterns: Iterable[str]) -> set[str] | None:
    """What patterns have before their star, which ends them; None where one has more behind it, or
    its lower case may be of another length.
    """
    heads = {pattern.rstrip("*") for pattern in patterns} | {""}
    return None if any("*" in head or not head.isascii() for head in heads) else heads


def _compile_heads(heads: Iterable[str]) -> Callable[[str, int], re.Match[str] | None]:
    """Finds the longest head with which a path in lower case begins."""
    sources = [
        "".join("." if char == "?" else re.escape(char.lower()) for char in head)
        for head in sorted(heads, key=len, reverse=True)
    ]
    return re.compile("|".join(sources), re.DOTALL).match


def _remember(known: dict[_Traits, str], traits: _Traits, rule_name: str) -> None:
    if len("".join(traits)) > _LONGEST:
        return
    if len(known) >= _REMEMBERED_MAX:
        known.clear()
    known[traits] = rule_name
