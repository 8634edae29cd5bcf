"""Which rule takes a root segment: most roots are of a kind that was seen before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from xrayd.sampling.document import Document
from xrayd.sampling.matching import Dialect, Matcher, host_and_path
from xrayd.sampling.rule import DEFAULT_RULE_NAME, SamplingRule

_REMEMBERED_MAX = 4_096
"""Roots, and as many kinds of them, whose rule is remembered."""

_LONGEST = 256
"""A root with traits of more characters is matched anew every time, so that memory stays small."""

_SHORTEST = 1
"""Characters of a URL by which roots of a service are known at first: those without a URL."""

_Traits = tuple[str, str, str, str, str]
"""What rules look at in a root segment: name, origin, URL, method and resource ARN; "" for what is
absent.
"""

_Found = TypeVar("_Found")


class RuleFinder(Generic[_Found]):
    """Finds rules in the daemon's own dialect.

    Of a URL with an id in it, which is new every time, only as much can matter as the longest
    pattern has before its star; so a root is known by its traits up to there. Where that is in a
    URL is the same for most of a service, and remembered for each. And if the beginning is new,
    what matters is only as much as the longest pattern that takes it has: all with that beginning
    are of one kind.
    """

    def __init__(self, rules: Iterable[SamplingRule], found: Mapping[str, _Found]) -> None:
        """Make ready for a set of rules; `found` is what to give for each, by its name."""
        self._matcher = Matcher(rules, Dialect.DAEMON)
        self._found = found
        heads = _heads(rule.url_path for rule in self._matcher.rules)
        self._span = None if heads is None else 1 + max(map(len, heads))
        self._match_head = None if heads is None else _compile_heads(heads)
        self._cuts: dict[str, int] = {}
        self._by_traits: dict[_Traits, _Found] = {}
        self._by_kind: dict[_Traits, str] = {}

    def find(self, root: Document) -> _Found | None:
        """What was given for the rule that takes a root: Default where no other does; None where
        that is missing too.
        """
        return self.find_all((root,))[0]

    def find_all(self, roots: Iterable[Document]) -> list[_Found | None]:
        """For each root what `find` gives."""
        cut_of, found_by = self._cuts.get, self._by_traits.get
        every = []
        for root in roots:
            url = method = ""
            if (http := root.http) is not None and (request := http.request) is not None:
                url, method = request.url, request.method
            name, origin, resource_arn = root.name, root.origin, root.resource_arn
            found = found_by((name, origin, url[: cut_of(name, _SHORTEST)], method, resource_arn))
            if found is None:
                found = self._find_by_kind((name, origin, url, method, resource_arn))
            every.append(found)
        return every

    def _find_by_kind(self, traits: _Traits) -> _Found | None:
        name, origin, url, method, resource_arn = traits
        kind = name, origin, self._cut(url), method, resource_arn
        rule_name = self._by_kind.get(kind)
        if rule_name is None:
            rule_name = self._match(traits)
            if len("".join(kind)) <= _LONGEST:
                if len(self._by_kind) >= _REMEMBERED_MAX:
                    self._by_kind.clear()
                self._by_kind[kind] = rule_name
        found = self._found.get(rule_name)
        if found is not None:
            self._learn(traits, found)
        return found

    def _learn(self, traits: _Traits, found: _Found) -> None:
        """Remember what was found, by as much of the traits as decides it."""
        name, origin, url, method, resource_arn = traits
        deciding = self._deciding(url)
        if len(name + origin + method + resource_arn) + deciding > _LONGEST:
            return
        if len(self._by_traits) >= _REMEMBERED_MAX:
            # Both, for a whole URL might else be found by the beginning of another. It also ends
            # what one long URL does to a service: that the ids in all its others are looked at.
            self._by_traits.clear()
            self._cuts.clear()
        # What was remembered by less stays true, for it was enough for that.
        cut = self._cuts[name] = max(deciding, self._cuts.get(name, _SHORTEST))
        self._by_traits[name, origin, url[:cut], method, resource_arn] = found

    def _deciding(self, url: str) -> int:
        """How many characters of a URL decide, for all that begin with them; one more than it has
        where only all of it does: no other URL is the same so far.
        """
        if self._span is not None and (path_at := _path_at(url)):
            return min(path_at + self._span, len(url) + 1)
        return len(url) + 1

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
        path_at = _path_at(url)
        if not path_at:
            return url
        url = url.lower()
        head = self._match_head(url, path_at)
        return url if head is None else url[: head.end() + 1]


def _path_at(url: str) -> int:
    """Where the path of a URL begins, behind its authority; 0 where it has not both."""
    authority_at = url.find("://") + 3
    return max(url.find("/", authority_at), 0) if authority_at > 3 else 0


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
