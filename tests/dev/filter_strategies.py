"""Random filter expressions and random traces that have a chance to meet."""

from __future__ import annotations

from filter_traces import compile_documents, http, segment
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from xrayd.dev.filters import contexts
from xrayd.dev.filters.parser import EQUALITY, NUMBER_OPERATORS, STRING_OPERATORS
from xrayd.dev.filters.syntax import (
    And,
    AnnotationTest,
    CauseJsonTest,
    CauseTest,
    EdgeTest,
    Flag,
    GroupTest,
    NodePattern,
    Not,
    NumberTest,
    Or,
    Present,
    ServiceTest,
    StringTest,
)

# The machine may be busy: no example is wrong for taking long.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = ["api", "web", "DynamoDB", "users", "x y"]
TYPES = ["", "client", "remote", "AWS::EC2::Instance", "AWS::DynamoDB", "AWS::DynamoDB::Table"]
ACCOUNTS = ["", "1234", "5678"]
KEYS = ["age", "plan", "is_new", "a.b"]
TEXTS = ["", "a", "alice", "/api/x", "GET", "é\x00%_", "1234", *NAMES, *TYPES]
GROUPS = {"slow": "responsetime > 1", "all": "", "both": 'group.name = "slow" !fault'}

names, texts = st.sampled_from(NAMES), st.sampled_from(TEXTS) | st.text(max_size=3)
numbers = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, 200.0, 404.0, 500.0]) | st.floats(
    allow_nan=False, allow_infinity=False
)
scalars = texts | numbers | st.booleans()


def _maybe(strategy):
    return st.none() | strategy


nodes = st.builds(
    NodePattern, _maybe(names), _maybe(st.sampled_from(TYPES)), _maybe(st.sampled_from(ACCOUNTS))
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0]) | texts,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["Services", "Name", "EntityPath", "Type", "Coverage", "Exceptions"]),
            inner,
            max_size=2,
        )
    ),
    max_leaves=4,
)


def _annotation(key, value, chance):
    if isinstance(value, bool):
        operators = EQUALITY
    else:
        operators = STRING_OPERATORS if isinstance(value, str) else NUMBER_OPERATORS
    return AnnotationTest(key, chance.choice(operators), value)


def simple_terms(context):
    """Terms of the simple keywords that may stand in a context."""
    kinds = [st.builds(Flag, st.sampled_from(sorted(context.flags)), st.booleans())]
    valued = sorted([*context.numbers, *context.strings])
    kinds.append(st.builds(Present, st.sampled_from(valued)))
    kinds.append(
        st.builds(
            NumberTest,
            st.sampled_from(sorted(context.numbers)),
            st.sampled_from(NUMBER_OPERATORS),
            numbers,
        )
    )
    if context.strings:
        kinds.append(
            st.builds(
                StringTest,
                st.sampled_from(sorted(context.strings)),
                st.sampled_from(STRING_OPERATORS),
                texts,
            )
        )
    if context.annotations is not None:
        keys = st.sampled_from(KEYS) | st.text(min_size=1, max_size=3)
        kinds.append(st.builds(AnnotationTest, keys))
        kinds.append(st.builds(_annotation, keys, scalars, st.randoms(use_true_random=False)))
    return st.one_of(kinds)


def combined(terms):
    """AND, OR and NOT over terms, at most a few levels deep."""
    return st.recursive(
        terms,
        lambda inner: (
            st.builds(Not, inner)
            | st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple))
            | st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple))
        ),
        max_leaves=4,
    )


def blocks(context):
    """What may stand in the braces of a context: an expression or nothing."""
    return st.none() | combined(simple_terms(context))


indexed_terms = st.one_of(
    simple_terms(contexts.TRACE),
    st.builds(ServiceTest, nodes, blocks(contexts.SERVICE)),
    st.builds(EdgeTest, nodes, nodes, blocks(contexts.EDGE)),
)
cause_terms = st.sampled_from(sorted(contexts.CAUSES)).flatmap(
    lambda place: st.builds(
        CauseTest, st.just(place[0]), st.just(place[1]), blocks(contexts.CAUSES[place])
    )
)
json_terms = st.builds(
    CauseJsonTest,
    st.sampled_from([None, "fault", "error", "responsetime"]),
    st.sampled_from(EQUALITY),
    st.lists(json_values, max_size=2),
)
group_terms = st.builds(
    GroupTest, st.just("group.name"), st.sampled_from(EQUALITY), st.sampled_from(sorted(GROUPS))
)
expressions = combined(
    st.one_of(indexed_terms, indexed_terms, cause_terms, json_terms, group_terms)
)

_flags = st.fixed_dictionaries(
    {}, optional={"fault": st.booleans(), "error": st.booleans(), "throttle": st.booleans()}
)
_https = st.builds(
    lambda status, request: http(status=status, **request),
    _maybe(st.sampled_from([200, 302, 404, 429, 500])),
    st.dictionaries(
        st.sampled_from(["method", "url", "user_agent", "client_ip"]),
        st.sampled_from(TEXTS),
        max_size=3,
    ),
)
_annotations = st.dictionaries(st.sampled_from(KEYS), scalars, max_size=3)
_aws = st.fixed_dictionaries(
    {},
    optional={
        "account_id": st.sampled_from(ACCOUNTS),
        "table_name": st.just("users"),
        "ec2": st.just({"instance_id": "a", "availability_zone": "alice"}),
    },
)
_causes = st.fixed_dictionaries(
    {
        "exceptions": st.lists(
            st.fixed_dictionaries({"type": st.sampled_from(TEXTS), "message": texts}), max_size=2
        )
    }
)


@st.composite
def _documents(draw, number):
    """One document; documents refer to each other by small numbers."""
    name = draw(names)
    fields = dict(draw(_flags))
    for field, strategy in (
        ("http", _https),
        ("annotations", _annotations),
        ("aws", _aws),
        ("cause", _causes),
    ):
        if draw(st.booleans()):
            fields[field] = draw(strategy)
    start = draw(st.sampled_from([0.0, 0.5, 1.0]))
    end = draw(st.sampled_from([None, 0.0, 1.0, 1.5, 4.0]))
    parent = draw(st.sampled_from([None, *range(1, number)])) if number > 1 else None
    if parent is not None and draw(st.booleans()):
        namespace = draw(st.sampled_from([None, "aws", "remote"]))
        fields |= {"type": "subsegment"} | ({"namespace": namespace} if namespace else {})
    else:
        for field, strategy in (
            ("user", st.sampled_from(TEXTS)),
            ("origin", st.sampled_from(TYPES)),
            ("resource_arn", st.sampled_from(["arn:a", "alice"])),
        ):
            if draw(st.booleans()):
                fields[field] = draw(strategy)
    return segment(name, number, start=start, end=end, parent=parent, **fields)


@st.composite
def traces(draw):
    """A compiled trace of up to five documents."""
    count = draw(st.integers(1, 5))
    return compile_documents(*[draw(_documents(number)) for number in range(1, count + 1)])
