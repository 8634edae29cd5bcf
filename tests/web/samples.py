"""Documents for the page to show."""

from __future__ import annotations

import secrets
import time
from typing import Any

HOSTILE = [
    "<script>owned()</script>",
    "<img src=x onerror=owned()>",
    '"><svg onload=owned()>',
    "javascript:owned()",
    "'-owned()-'",
    "{{owned()}}${owned()}",
    "</title></style></textarea><iframe src=javascript:owned()>",
    "\u202egnp.exe",
]


def segment(name: str = "web", *, took: float = 0.05, ago: float = 1.0, **more: Any) -> dict:
    """A whole segment of a trace of its own that ended `ago` seconds before now."""
    end = time.time() - ago
    start = end - took
    return {
        "name": name,
        "id": secrets.token_hex(8),
        "trace_id": f"1-{int(start):08x}-{secrets.token_hex(12)}",
        "start_time": start,
        "end_time": end,
        **more,
    }


def request(path: str, status: int = 200, method: str = "GET") -> dict[str, Any]:
    """Members of a segment that answered a request."""
    flags = {"fault": status >= 500, "error": 400 <= status < 500, "throttle": status == 429}
    url = f"http://shop.example{path}"
    http = {"request": {"method": method, "url": url}, "response": {"status": status}}
    return {"http": http, **{name: True for name, on in flags.items() if on}}
