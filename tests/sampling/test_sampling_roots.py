from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xrayd.relay.request import FullHead
from xrayd.sampling.roots import new_roots
from xrayd.sampling.verdicts import KEEP, Action, Generation, Verdict, VerdictTable, trace_key

DROP = Verdict(Action.DROP, "shop")
KEYS = [f"1-6b02e00{number}-{number:024x}" for number in range(8)]
# Some are another trace's key in part, or sort between keys, or change their length in lower case.
SPELLINGS = [
    *KEYS,
    KEYS[1].replace("-", "")[1:],
    "1-6B02E002-" + KEYS[2][11:],
    "", "0" + KEYS[3][1:], "2" + KEYS[3][1:], "1." + KEYS[3][2:], KEYS[4] + "0", KEYS[4][:-1],
    "1-" + "İ" * 33,
]  # fmt: skip
ids = st.sampled_from(SPELLINGS)
some = st.sets(st.sampled_from(KEYS))
decided = st.dictionaries(st.sampled_from(KEYS), st.sampled_from([KEEP, DROP]))


def generation(verdicts: dict[str, Verdict]) -> Generation:
    drops = {key: verdict for key, verdict in verdicts.items() if verdict is DROP}
    return Generation(verdicts.keys() - drops.keys(), drops)


@given(st.lists(ids, max_size=12), decided, decided, some)
def test_roots_are_new_where_nothing_is_known_of_their_trace(came, young, old, waiting):
    known = VerdictTable(100, 600.0)
    known.young = generation(young)
    known.old = generation(old)
    # Nothing that was decided before is as young.
    known.young_from = max((key[:10] for key in old), default="") + "~"
    documents = [FullHead(trace_id=each, id=str(place)) for place, each in enumerate(came)]
    expected: dict[str, FullHead] = {}
    for document in documents:
        key = trace_key(document.trace_id)
        if key == document.trace_id and key not in {*young, *old, *waiting}:
            expected.setdefault(key, document)
    assert list(new_roots(documents, known, waiting)) == list(expected.values())


def test_an_old_drop_is_known_even_where_the_clocks_say_that_it_cannot_be():
    known = VerdictTable(100, 600.0)
    known.old = generation(dict.fromkeys(KEYS, DROP))
    known.young_from = "1-00000000"
    assert new_roots([FullHead(trace_id=KEYS[5])], known, set()) == []
