"""What a sampler says to the daemon, and an X-Ray that counts what the daemon says to it."""

import json
import threading
import time
from collections import Counter
from typing import Any

from fakes.process import Xrayd
from fakes.verdict import Verdict
from fakes.xray import FakeXRay, Request

DEFAULT = {
    "RuleName": "Default",
    "RuleARN": "arn:aws:xray:us-east-1:000000000000:sampling-rule/Default",
    "ResourceARN": "*",
    "Priority": 10000,
    "FixedRate": 0.05,
    "ReservoirSize": 1,
    "ServiceName": "*",
    "ServiceType": "*",
    "Host": "*",
    "HTTPMethod": "*",
    "URLPath": "*",
    "Version": 1,
    "Attributes": {},
}


def make_rule(name: str, **fields: Any) -> dict[str, Any]:
    arn = f"arn:aws:xray:us-east-1:000000000000:sampling-rule/{name}"
    return {**DEFAULT, "RuleName": name, "RuleARN": arn, "Priority": 100, **fields}


def make_record(rule: dict[str, Any], modified_at: float = 0.0) -> dict[str, Any]:
    return {"SamplingRule": rule, "CreatedAt": 0.0, "ModifiedAt": modified_at}


def statistics(rule: str, client: int, requests: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "RuleName": rule,
        "ClientID": f"{client:024x}",
        "Timestamp": int(time.time()),
        "RequestCount": requests,
        "SampledCount": requests,
        "BorrowCount": 0,
        **fields,
    }


def report(process: Xrayd, *rows: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps({"SamplingStatisticsDocuments": list(rows)})
    answer = process.post("/SamplingTargets", body)
    assert answer.status == 200, answer
    return json.loads(answer.body)


def rule_names(process: Xrayd) -> list[str]:
    answer = process.post("/GetSamplingRules")
    assert answer.status == 200, answer
    records = json.loads(answer.body)["SamplingRuleRecords"]
    return [record["SamplingRule"]["RuleName"] for record in records]


class SamplingService:
    """Rules and targets of a FakeXRay, and the sums of what reached it with success."""

    def __init__(self, fake: FakeXRay, *rules: dict[str, Any], page: int = 100) -> None:
        self.rules = [*rules, DEFAULT]
        self.modified_at = 1_600_000_000.0
        self.quotas: dict[str, int] = {}
        self.counted: Counter[str] = Counter()
        self.documents_max = 0
        self._page = page
        self._guard = threading.Lock()
        self._fake = fake
        fake.answer(self._answer_rules, path="/GetSamplingRules")
        fake.answer(self._answer_targets, path="/SamplingTargets")

    def calls(self, path: str) -> int:
        return len(self._fake.requests(path))

    def wait_counted(self, rule: str, requests: int, timeout: float = 60.0) -> None:
        self._fake.wait_for(
            lambda: self.counted[rule] >= requests, timeout, f"{requests} of {rule}"
        )

    def _answer_rules(self, request: Request) -> Verdict:
        start = int((json.loads(request.body) if request.body else {}).get("NextToken") or 0)
        records = [make_record(rule, self.modified_at) for rule in self.rules]
        body: dict[str, Any] = {"SamplingRuleRecords": records[start : start + self._page]}
        if start + self._page < len(records):
            body["NextToken"] = str(start + self._page)
        return Verdict(body=body)

    def _answer_targets(self, request: Request) -> Verdict:
        rows = json.loads(request.body)["SamplingStatisticsDocuments"]
        known = {rule["RuleName"]: rule for rule in self.rules}
        with self._guard:
            self.documents_max = max(self.documents_max, len(rows))
            for row in rows:
                self.counted[row["RuleName"]] += row["RequestCount"]
        targets = [
            {
                "RuleName": row["RuleName"],
                "FixedRate": known[row["RuleName"]]["FixedRate"],
                "ReservoirQuota": self.quotas.get(row["RuleName"], 0),
                "ReservoirQuotaTTL": int(time.time()) + 300,
                "Interval": 10,
            }
            for row in rows
            if row["RuleName"] in known
        ]
        return Verdict(
            body={
                "SamplingTargetDocuments": targets,
                "LastRuleModification": self.modified_at,
                "UnprocessedStatistics": [],
            }
        )
