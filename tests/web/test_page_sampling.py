"""Sampling rules as somebody sees and changes them."""

import json
import time

from samples import HOSTILE, segment
from selenium.webdriver.common.keys import Keys


def put_rule(dev, name, **more):
    rule = {"RuleName": name, "Priority": 50, "FixedRate": 0.05, "ReservoirSize": 10,
            "ServiceName": "*", "ServiceType": "*", "Host": "*", "HTTPMethod": "*",
            "URLPath": f"/{name}", "ResourceARN": "*", "Version": 1, **more}  # fmt: skip
    dev.call("/CreateSamplingRule", SamplingRule=rule)


def rule_of(dev, name):
    records = dev.call("/GetSamplingRules")["SamplingRuleRecords"]
    return next(r["SamplingRule"] for r in records if r["SamplingRule"]["RuleName"] == name)


def report(dev, rule, client, requests, *, sampled=0, borrowed=0):
    one = {"RuleName": rule, "ClientID": client * 24, "Timestamp": time.time(),
           "RequestCount": requests, "SampledCount": sampled, "BorrowCount": borrowed}  # fmt: skip
    answer = dev.call("/SamplingTargets", SamplingStatisticsDocuments=[one])
    return answer["SamplingTargetDocuments"][0]


def write(page, label, text):
    field = page.find(f"[aria-label='{label}']")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text)
    return field


def test_rules_are_made_changed_and_removed_in_place(dev, page):
    page.open("#/sampling")
    page.find("tr[data-rule=Default]")
    page.find("button", "New rule").click()
    page.find("input[aria-label=RuleName]").send_keys("checkout")
    path = page.find("input[aria-label=URLPath]")
    path.send_keys(Keys.CONTROL, "a")
    path.send_keys("/checkout*", Keys.ENTER)
    assert "/checkout*" in page.find("tr[data-rule=checkout]").text
    page.find("button[aria-label='Edit checkout']").click()
    rate = page.find("input[aria-label=FixedRate]")
    rate.send_keys(Keys.CONTROL, "a")
    rate.send_keys("7", Keys.ENTER)
    page.wait(lambda: page.find("p.error").text != "")
    rate.send_keys(Keys.CONTROL, "a")
    rate.send_keys("0.25", Keys.ENTER)
    page.wait(lambda: "25 %" in page.find("tr[data-rule=checkout]").text)

    page.find("input[aria-label=Path]").send_keys("/checkout/now", Keys.ENTER)
    page.find(".verdicts li", "takes the request")
    assert page.texts(".verdicts li")[0].startswith("checkout ✓")
    box = page.find("input[aria-label=Path]")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys("/elsewhere", Keys.ENTER)
    page.find(".verdicts li", "URLPath /checkout* ≠ /elsewhere")

    page.find("button[aria-label='Delete checkout']").click()
    page.wait(lambda: not page.all("tr[data-rule=checkout]"))


def test_statistics_stand_beside_their_rule(dev, page):
    report = {"RuleName": "Default", "ClientID": "0" * 24, "Timestamp": segment()["end_time"],
              "RequestCount": 1234, "SampledCount": 56, "BorrowCount": 7}  # fmt: skip
    dev.call("/SamplingTargets", SamplingStatisticsDocuments=[report])
    page.open("#/sampling")
    assert "1,234 56 7" in page.find("tr[data-rule=Default]").text


def test_attributes_resource_and_boost_are_edited_in_place(dev, page):
    page.open("#/sampling")
    page.find("button", "New rule").click()
    write(page, "RuleName", "tenants")
    write(page, "ResourceARN", "arn:aws:ecs:*")
    write(page, "Attributes", "tenant=gold*\nregion")
    page.find("button", "Save").click()
    page.find("p.error", "write region as key=value")
    write(page, "Attributes", f"tenant=gold*\nx={HOSTILE[0]}")
    write(page, "MaxRate", "0.5")
    write(page, "CooldownWindowMinutes", "10").send_keys(Keys.ENTER)
    more = page.find("tr[data-more=tenants]", "tenant gold*").text
    assert "ARN arn:aws:ecs:*" in more
    assert f"x {HOSTILE[0]}" in more
    assert "boost up to 50 %, then 10 min without" in more
    rule = rule_of(dev, "tenants")
    assert rule["Attributes"] == {"tenant": "gold*", "x": HOSTILE[0]}
    assert rule["SamplingRateBoost"] == {"MaxRate": 0.5, "CooldownWindowMinutes": 10}

    page.find("button[aria-label='Edit tenants']").click()
    assert page.find("[aria-label=ResourceARN]").get_attribute("value") == "arn:aws:ecs:*"
    write(page, "MaxRate", Keys.DELETE)
    write(page, "CooldownWindowMinutes", Keys.DELETE).send_keys(Keys.ENTER)
    page.find("p.error", "not take it away")
    write(page, "MaxRate", "7").send_keys(Keys.ENTER)
    page.find("p.error", "samplingRateBoost.maxRate")
    write(page, "MaxRate", "0.25")
    write(page, "CooldownWindowMinutes", "3")
    write(page, "ResourceARN", "*")
    write(page, "Attributes", Keys.DELETE)
    page.find("button", "Save").click()
    page.wait(lambda: page.texts("tr[data-more=tenants]") == [
        "boost up to 25 %, then 3 min without"])  # fmt: skip
    assert rule_of(dev, "tenants")["Attributes"] == {}


def test_which_rule_takes_a_request_depends_on_its_attributes_too(dev, page):
    put_rule(dev, "vip", Priority=1, URLPath="*", Attributes={"tenant": "gold*"})
    page.open("#/sampling")
    page.find("select[aria-label=Sampler]").send_keys("OpenTelemetry for Node")
    write(page, "Attributes of the request", "tenant=golden")
    page.find("button", "Explain").click()
    page.find(".verdicts li", "vip ✓ takes the request")
    write(page, "Attributes of the request", "tenant=tin")
    page.find("button", "Explain").click()
    page.find(".verdicts li", "vip does not match: Attributes.tenant gold* ≠ tin")
    write(page, "Attributes of the request", "tenant")
    page.find("button", "Explain").click()
    page.see("attribute tenant: write KEY=VALUE")
    dev.call("/DeleteSamplingRule", RuleName="vip")


def test_the_quota_is_shown_as_clients_hold_it_and_follows_by_itself(dev, page):
    put_rule(dev, "shared")
    page.open("#/sampling")
    page.wait(lambda: "0 of 10/s 0" in page.find("tr[data-rule=shared]").text)
    held = report(dev, "shared", "a", 60, sampled=10, borrowed=2)["ReservoirQuota"]
    page.wait(lambda: f"60 10 2 1.0/s {held} of 10/s 1" in page.find("tr[data-rule=shared]").text)
    page.find("tr[data-more=shared] summary").click()
    page.find("tr[data-more=shared] tbody tr", "a" * 24)
    page.run("document.querySelector(\"[data-keep='Edit shared']\").focus()")
    report(dev, "shared", "b", 6000)
    page.find("tr[data-more=shared] tbody tr", "b" * 24)  # what was opened still is
    assert page.active().get_attribute("aria-label") == "Edit shared"


def test_the_sampling_state_is_what_the_command_says(dev):
    put_rule(dev, "same")
    report(dev, "same", "c", 5)
    ours, theirs = (json.loads(dev.get(path).body) for path in ("/_xrayd/sampling", "/sampling"))
    for view in (ours, theirs):
        view["rules_age_s"] = None
        for rule in view["rules"]:
            rule["state"]["quota_ttl"] = None
    assert ours == theirs
    (same,) = [one for one in ours["rules"] if one["rule"]["RuleName"] == "same"]
    assert [one["client_id"] for one in same["shares"]] == ["c" * 24]
