"""Documents of one trace as clients send them: nested, streamed, repeated, incomplete."""

import json

from hypothesis import strategies as st

from xrayd.dev.documents import Accepted, parse_documents
from xrayd.dev.traces import compile_trace

TRACE_ID = "1-58406520-a006649127e371903a2de979"
START = 1_480_615_200.0


def accept(*documents):
    """The documents, read; all of them must be acceptable."""
    accepted = []
    for document in documents:
        (verdict,) = parse_documents(json.dumps({"trace_id": TRACE_ID} | document))
        assert isinstance(verdict, Accepted), verdict
        accepted.append(verdict.document)
    return accepted


def compile_documents(*documents, waited=60.0, **options):
    """A trace of these documents, `waited` seconds after the last arrived."""
    return compile_trace(
        TRACE_ID, accept(*documents), now=START + waited, last_received=START, **options
    )


def segment(id_, name, start=0.0, end=1.0, **fields):
    """A segment; times in seconds after `START`, None for in progress."""
    timing = {"in_progress": True} if end is None else {"end_time": START + end}
    return {"id": id_ * 16, "name": name, "start_time": START + start} | timing | fields


def subsegment(id_, name, start=0.0, end=1.0, parent=None, **fields):
    """A subsegment; an independent one where `parent` is given."""
    independent = {"type": "subsegment", "parent_id": parent * 16} if parent else {}
    return segment(id_, name, start, end, **independent, **fields)


names = st.sampled_from(["api", "orders", "DynamoDB", "s3", "db.example.com"])
flags = st.fixed_dictionaries(
    {}, optional={name: st.booleans() for name in ("fault", "error", "throttle")}
)
details = st.fixed_dictionaries(
    {},
    optional={
        "http": st.builds(
            lambda status: {"response": {"status": status}},
            st.sampled_from([200, 302, 404, 429, 500]),
        ),
        "annotations": st.dictionaries(
            st.sampled_from(["a", "b.c", "not valid!"]),
            st.sampled_from(["x", 1, 1.0, True, None]),
            max_size=3,
        ),
        "aws": st.sampled_from(
            [
                {"table_name": "orders", "operation": "GetItem"},
                {"account_id": "123456789012"},
                {"ec2": {"availability_zone": "us-east-1a", "instance_id": "i-1"}},
            ]
        ),
        "cause": st.sampled_from(
            [
                {"exceptions": [{"id": "e" * 16, "type": "Boom", "message": "m"}]},
                "e" * 16,
                {"id": "0000000000000001"},
            ]
        ),
        "user": st.sampled_from(["alice", "bob"]),
        "origin": st.sampled_from(["AWS::EC2::Instance", "AWS::Lambda::Function"]),
        "namespace": st.sampled_from(["aws", "remote", "local"]),
        "sql": st.just({"url": "postgresql://db"}),
        "links": st.just([{"trace_id": "1-58406520-" + "b" * 24, "id": "1" * 16}]),
    },
)


@st.composite
def entities(draw, number, is_segment):
    """A document by itself; its parent any other one, one that never arrives, or none."""
    id_ = f"{number:016x}"
    start = START + draw(st.integers(0, 50)) / 10
    fields = {"id": id_, "name": draw(names), "start_time": start, "trace_id": TRACE_ID}
    fields |= draw(flags) | draw(details)
    if draw(st.integers(0, 9)):
        fields["end_time"] = start + draw(st.integers(-2, 40)) / 10
    else:
        fields["in_progress"] = True
    parent = draw(st.sampled_from([*range(8), 99, None]))
    if is_segment:
        return fields if parent is None else fields | {"parent_id": f"{parent:016x}"}
    return fields | {"type": "subsegment", "parent_id": f"{parent or 0:016x}"}


@st.composite
def document_lists(draw):
    """Documents of a trace: each id once complete or not, embedded or not, some repeated."""
    count = draw(st.integers(1, 8))
    made = [draw(entities(number, draw(st.booleans()))) for number in range(count)]
    by_id = {document["id"]: document for document in made}
    sent = []
    for document in made:
        host = by_id.get(document.get("parent_id", ""))
        how = draw(st.sampled_from(["alone", "embedded", "both"]))
        is_embeddable = document.get("type") == "subsegment" and host not in (None, document)
        if is_embeddable and how != "alone" and "subsegments" not in document:
            host.setdefault("subsegments", []).append(
                {key: value for key, value in document.items() if key != "subsegments"}
            )
            if how == "embedded" and not draw(st.booleans()):
                continue
        sent.append(document)
    sent += [
        {key: value for key, value in document.items() if key != "end_time"} | {"in_progress": True}
        for document in sent
        if "end_time" in document and draw(st.booleans())
    ]
    repeated = [document for document in sent if draw(st.integers(0, 4)) == 0]
    return accept(*sent, *repeated)
