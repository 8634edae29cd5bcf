"""Every setting of xrayd: its name in the file, flag and variable, default, unit and meaning.

The file's names, flags and defaults up to `Version` are the X-Ray daemon's own (cfg.yaml, version
2). `xrayd.config_sources` finds their values.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

LOG_LEVELS = ("dev", "debug", "info", "warn", "error", "prod", "silent")


class _Setting(NamedTuple):
    """What a setting is declared with; see `Option` for what it means."""

    key: str
    default: Any
    doc: str
    short: str
    long: str
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None


def _setting(
    key: str,
    default: Any,
    doc: str,
    *,
    short: str = "",
    long: str = "",
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    return _Setting(key, default, doc, short, long, choices, minimum, maximum)


class Config:
    """The effective settings, read only. `options()` and `config.example.yaml` list the same.

    No dataclass, because importing that takes a fifth of what a health check may cost.
    """

    def __init__(self, **values: Any) -> None:
        for name, setting in _SETTINGS.items():
            self.__dict__[name] = values.get(name, setting.default)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"settings do not change: {name}")

    buffer_mb: int = _setting(
        "TotalBufferSizeMB",
        0,
        "MB of memory for everything held, at least 3. 0 means 1 % of the host's memory, or of the"
        " container's limit where there is one, and 16 at least where the limit allows it.",
        short="m",
        long="buffer-memory",
    )
    concurrency: int = _setting(
        "Concurrency", 8, "PutTraceSegments requests in flight at most.", minimum=1
    )
    region: str = _setting(
        "Region",
        "",
        "AWS region. Empty: AWS_REGION, the ECS metadata file, AWS_DEFAULT_REGION, the profile,"
        " ECS task metadata, EC2 instance metadata, in this order.",
        short="n",
        long="region",
    )
    endpoint: str = _setting(
        "Endpoint",
        "",
        "URL of the X-Ray endpoint. Empty: AWS_ENDPOINT_URL_XRAY, AWS_ENDPOINT_URL, then the"
        " region's own (FIPS and dual-stack by AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT).",
    )
    udp_address: str = _setting(
        "Socket.UDPAddress",
        "127.0.0.1:2000",
        "Where segment datagrams are received.",
        short="b",
        long="bind",
    )
    tcp_address: str = _setting(
        "Socket.TCPAddress",
        "127.0.0.1:2000",
        "Where the SDKs' sampling calls are answered.",
        short="t",
        long="bind-tcp",
    )
    receive_buffer_mb: int = _setting(
        "Socket.ReceiveBufferMB",
        16,
        "MB of kernel receive buffer asked for, 0 for the system's default; what was granted is"
        " logged at start.",
        minimum=0,
    )
    log_rotation: bool = _setting(
        "Logging.LogRotation", True, "Rotate the log file at 50 MB, keeping one old file."
    )
    log_level: str = _setting(
        "Logging.LogLevel",
        "prod",
        "prod (the same as info), dev and debug (everything), warn, error, silent (nothing).",
        short="l",
        long="log-level",
        choices=LOG_LEVELS,
    )
    log_path: str = _setting(
        "Logging.LogPath", "", "Log file. Empty: standard output.", short="f", long="log-file"
    )
    log_format: str = _setting(
        "Logging.Format",
        "text",
        "text (the X-Ray daemon's lines) or json (one object a line).",
        long="log-format",
        choices=("text", "json"),
    )
    local_mode: bool = _setting(
        "LocalMode",
        False,
        "Do not ask EC2 instance metadata for region, host name and instance id.",
        short="o",
        long="local-mode",
    )
    resource_arn: str = _setting(
        "ResourceARN",
        "",
        "ARN of the AWS resource xrayd runs on, for the telemetry records.",
        short="a",
        long="resource-arn",
    )
    role_arn: str = _setting(
        "RoleARN",
        "",
        "Role to assume before sending (session name xray-daemon).",
        short="r",
        long="role-arn",
    )
    role_external_id: str = _setting(
        "RoleExternalID", "", "External id given when RoleARN is assumed."
    )
    no_verify_ssl: bool = _setting(
        "NoVerifySSL", False, "Do not verify the endpoint's certificate. Warned about."
    )
    proxy_address: str = _setting(
        "ProxyAddress",
        "",
        "HTTP proxy for everything sent to AWS. Empty: HTTPS_PROXY. NO_PROXY is honoured.",
        short="p",
        long="proxy-address",
    )
    telemetry_enabled: bool = _setting(
        "Telemetry.Enabled", True, "Send a telemetry record (PutTelemetryRecords) every minute."
    )
    proxy_operations: tuple[str, ...] = _setting(
        "Proxy.Operations",
        (),
        "More X-Ray operations, by name, that TCP 2000 may sign and forward, beside"
        " GetSamplingRules and GetSamplingTargets.",
    )
    proxy_hosts: tuple[str, ...] = _setting(
        "Proxy.AllowedHosts",
        (),
        "More Host names that callers on loopback may use for TCP 2000, beside localhost and"
        " loopback addresses.",
    )
    sampling_proxy: str = _setting(
        "Sampling.Proxy",
        "broker",
        "How TCP 2000 answers sampling calls: broker (from memory; rules are fetched once for all"
        " clients, their statistics merged) or forward (each call is signed and passed on, as by"
        " the X-Ray daemon).",
        choices=("broker", "forward"),
    )
    sampling_rules_file: str = _setting(
        "Sampling.RulesFile",
        "",
        "YAML or JSON file with sampling rules to serve instead of AWS's: the SDKs' local rules"
        " (version 1 or 2), or rules as GetSamplingRules has them. Read again at SIGHUP.",
    )
    sampling_apply: str = _setting(
        "Sampling.Apply",
        "off",
        "Which traces xrayd samples itself, by the same rules: off, undecided (those in which no"
        " segment names the rule by which an SDK decided) or all.",
        choices=("off", "undecided", "all"),
    )
    sampling_hold_s: float = _setting(
        "Sampling.HoldSeconds",
        5.0,
        "With Sampling.Apply, seconds that documents wait in memory for the root of their trace.",
        minimum=0.1,
        maximum=60,
    )
    sampling_keep_rootless: bool = _setting(
        "Sampling.KeepRootless",
        False,
        "With Sampling.Apply, keep a trace whose root does not come in time, as that of a service"
        " on another host; otherwise the Default rule decides.",
    )
    age_max_h: float = _setting(
        "Delivery.MaxAgeHours",
        24.0,
        "Hours a segment is held, in memory or on disk, before it is given up; 672 at most.",
        minimum=0.01,
        maximum=672,  # X-Ray refuses traces that are older than 28 to 30 days
    )
    spool_directory: str = _setting(
        "Spool.Directory",
        "",
        "Directory to write segments to as they arrive, so that neither a kill nor a long outage"
        " loses them. It is made with mode 0700 and must be xrayd's own. Empty: no spool.",
    )
    spool_max_mb: int = _setting(
        "Spool.MaxMB", 512, "MiB of disk for the spool; the oldest file makes room.", minimum=1
    )
    spool_sync: str = _setting(
        "Spool.Sync",
        "interval",
        "When documents are made durable: interval (every 100 ms), batch (as they are written), off"
        " (when the system sees fit).",
        choices=("interval", "batch", "off"),
    )
    drain_quiet_s: float = _setting(
        "Drain.QuietSeconds",
        1.0,
        "At SIGTERM, stop receiving when senders have been quiet for this long.",
        minimum=0,
    )
    drain_listen_s: float = _setting(
        "Drain.ListenSeconds",
        3.0,
        "At SIGTERM, stop receiving after this long in any case. The whole exit takes 10 at most,"
        " and 7 of them may be this, 5 with a spool.",
        minimum=0,
    )
    metrics_address: str = _setting(
        "Metrics.Address",
        "",
        "Where GET /metrics and /readyz are answered, such as 127.0.0.1:2001. Empty: off.",
    )


_SETTINGS: dict[str, _Setting] = {
    name: setting for name, setting in vars(Config).items() if isinstance(setting, _Setting)
}


class Option(NamedTuple):
    """One setting as an operator sees it. `short` and `long` are empty where it has no flag."""

    key: str
    name: str
    default: Any
    doc: str
    short: str
    long: str
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None

    @property
    def variable(self) -> str:
        """Environment variable: `Socket.UDPAddress` is `XRAYD_SOCKET_UDP_ADDRESS`."""
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", self.key)
        return "XRAYD_" + words.replace(".", "_").upper()


def options() -> list[Option]:
    """Every setting, in the order of the example file."""
    return [
        Option(s.key, name, s.default, s.doc, s.short, s.long, s.choices, s.minimum, s.maximum)
        for name, s in _SETTINGS.items()
    ]
