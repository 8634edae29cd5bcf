from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sampling_samples import rule

from xrayd.relay.request import FullHead, Http, HttpRequest
from xrayd.sampling.finding import RuleFinder
from xrayd.sampling.matching import Dialect, Matcher, host_and_path
from xrayd.sampling.rule import DEFAULT_RULE_NAME


def root(url: str, **fields) -> FullHead:
    return FullHead(name="shop", http=Http(HttpRequest(url, "GET")), **fields)


def find_names(rules) -> RuleFinder[str]:
    names = [each.rule_name for each in rules] + [DEFAULT_RULE_NAME]
    return RuleFinder(rules, dict(zip(names, names, strict=True)))


def found_plainly(rules, document: FullHead) -> str:
    host, path = host_and_path(document.http.request.url)
    found = Matcher(rules, Dialect.DAEMON).find((document.name, None, host, "GET", path, None))
    return DEFAULT_RULE_NAME if found is None else found.rule_name


# Few characters, so that patterns and URLs meet often: signs that end a path, letters whose lower
# case is of another length or of another alphabet, both cases.
texts = st.text("/aA?#@:İK1", max_size=8)
patterns = st.text("/aA?*Kİ1", max_size=6).map(lambda text: text or "*")
urls = st.one_of(
    st.builds("http://{}{}".format, st.sampled_from(["", "a", "u@a:1", "a?"]), texts),
    st.builds("https://a/{}".format, texts),
    st.builds("{}://a/{}".format, st.sampled_from(["", "a", "grpc", "weblogic"]), texts),
    texts,
)


@given(st.lists(patterns, max_size=5), st.lists(urls, max_size=12))
def test_a_rule_found_by_the_kind_of_a_root_is_the_rule_that_takes_it(paths, made_urls):
    rules = [
        rule(f"r{number}", url_path=path, priority=number + 1) for number, path in enumerate(paths)
    ]
    finder = find_names(rules)
    for url in [*made_urls, *made_urls]:
        assert finder.find(root(url)) == found_plainly(rules, root(url))


def test_what_is_absent_is_matched_as_absent():
    rules = [rule("get", http_method="GET"), rule("arn", resource_arn="arn:*", priority=200)]
    finder = find_names(rules)
    assert finder.find(FullHead(name="shop")) == DEFAULT_RULE_NAME
    assert finder.find(FullHead(name="shop", resource_arn="arn:aws:1")) == "arn"
    assert finder.find(FullHead(name="shop", http=Http())) == DEFAULT_RULE_NAME
    assert finder.find(root("/")) == "get"


def test_ids_in_urls_make_no_new_kinds_however_long_other_patterns_are():
    rules = [
        rule("short", url_path="/shop/carts/*"),
        rule("long", url_path="/organisations/members/preferences/*", priority=200),
    ]
    finder = find_names(rules)
    for number in range(2_000):
        url = f"http://shop.example.com/shop/carts/{number:032x}"
        assert finder.find(root(url)) == "short"
    assert len(finder._by_kind) == 1


def test_what_is_given_for_no_rule_is_nothing():
    assert RuleFinder([rule("r", url_path="/a")], {}).find(root("http://a/a")) is None


def test_a_whole_url_is_not_taken_for_the_beginning_of_another_when_services_are_forgotten():
    finder = find_names([rule("short", url_path="/"), rule("other", priority=200)])
    for number in range(5_000):
        service = FullHead(name=f"s{number}", http=Http(HttpRequest("http://a/b", "GET")))
        assert finder.find(service) == finder.find(root("/a")) == "other"
        assert finder.find(root("/")) == "short"
    assert len(finder._by_traits) <= 4_096


def test_hosts_of_any_length_share_a_service():
    narrow = rule("b", host="*b", url_path="/shop/?/*")
    finder = find_names([narrow, rule("a", url_path="/shop/*", priority=200)])
    for length in (1, 200, 3, 50, 300, 100):
        for last, name in (("a", "a"), ("b", "b"), ("a", "a")):
            for number in range(20):
                url = f"http://{'h' * length}{last}/shop/{number % 10}/{number:032x}"
                assert finder.find(root(url)) == name, url


def test_a_long_host_is_in_the_way_of_its_service_for_a_while_only():
    finder = find_names([rule("cart", url_path="/cart/*")])
    finder.find(root(f"http://{'h' * 200}/cart/1"))
    for number in range(5_000):
        assert finder.find(root(f"http://shop/cart/{number:032x}")) == "cart"
    assert len(finder._by_traits) <= 10


def test_roots_without_a_url_are_remembered_too():
    finder = find_names([rule("worker", url_path="*")])
    for made in (FullHead(name="w"), FullHead(name="w", http=Http())):
        for _ in range(2):
            assert finder.find(made) == "worker"
    assert list(finder._by_traits) == [("w", "", "", "", "")]
