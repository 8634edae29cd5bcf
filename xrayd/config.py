"""Every setting of xrayd: its name in the file, flag and variable, default, unit and meaning.

The file's names, flags and defaults up to `Version` are the X-Ray daemon's own (cfg.yaml, version
2). They are merged in one place: default < file < environment < flags.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from xrayd.errors import ConfigError

if TYPE_CHECKING:
    from xrayd.sampling.rule import SamplingRuleRecord

DEFAULT_FILES = ("/etc/amazon/xray/cfg.yaml", "cfg.yaml")

LOG_LEVELS = ("dev", "debug", "info", "warn", "error", "prod", "silent")

# Keys of the X-Ray daemon's older files, and what its messages ask the operator to do.
_UNSUPPORTED_KEYS = {
    "Profile.CPU",
    "Profile.Memory",
    "Socket.BufferSizeKB",
    "Logging.LogFormat",
    "Processor.BatchProcessorQueueSize",
}
_MIGRATED_KEYS = {
    "LogRotation": "Logging.LogRotation",
    "Processor.Region": "Region",
    "Processor.Endpoint": "Endpoint",
    "Processor.Routine": "Concurrency",
    "MemoryLimit": "TotalBufferSizeMB",
}
_HINTS = {"Logging.LogFormat": "; use Logging.Format"}


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
        "At SIGTERM, stop receiving after this long in any case. The whole exit takes 10 at most.",
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
_NAMES = {setting.key: name for name, setting in _SETTINGS.items()}


class Option(NamedTuple):
    """One setting as an operator sees it. `short` and `long` are empty where it has no flag."""

    key: str
    name: str
    default: Any
    doc: str
    short: str
    long: str
    choices: tuple[str, ...]

    @property
    def variable(self) -> str:
        """Environment variable: `Socket.UDPAddress` is `XRAYD_SOCKET_UDP_ADDRESS`."""
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", self.key)
        return "XRAYD_" + words.replace(".", "_").upper()


def options() -> list[Option]:
    """Every setting, in the order of the example file."""
    return [
        Option(s.key, name, s.default, s.doc, s.short, s.long, s.choices)
        for name, s in _SETTINGS.items()
    ]


class Loaded(NamedTuple):
    """A merged configuration.

    `origins` gives for each file key where its value came from ("default", "cfg.yaml line 3",
    "XRAYD_REGION", "flag -n"). `warnings` are lines to log once the log is open.
    """

    config: Config
    origins: dict[str, str]
    warnings: list[str]


def load(
    flags: Mapping[str, tuple[Any, str]],
    environment: Mapping[str, str] = os.environ,
    config_path: str = "",
) -> Loaded:
    """Merge defaults, file, environment and flags.

    Args:
        flags: file key -> (value already of its type, spelling used), such as
            `{"Region": ("eu-west-1", "-n")}`.
        environment: variables; only `XRAYD_*` are read here.
        config_path: the file named by `-c`; without one the default places are tried, and unknown
            keys there are warned about instead of refused, as the X-Ray daemon does.

    Raises:
        ConfigError: naming the file and line, variable or flag, and what to do.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(_NAMES, "default")
    warnings: list[str] = []
    path = config_path or next(filter(os.path.isfile, DEFAULT_FILES), "")
    if path:
        for key, value, line in _read_file(path):
            place = f"{path} line {line}"
            if key == "Version":
                if value not in (1, 2):
                    raise ConfigError(f"{place}: Version must be 1 or 2, not {value!r}")
                continue
            problem = _key_problem(key)
            if problem and config_path:
                raise ConfigError(f"{place}: {problem}")
            if problem:
                warnings.append(f"{place}: {problem}; ignored")
                continue
            values[key] = _checked(key, value, place)
            origins[key] = place
    for option in options():
        text = environment.get(option.variable)
        if text is not None:
            value = _from_text(option.key, text, option.variable)
            values[option.key] = _checked(option.key, value, option.variable)
            origins[option.key] = option.variable
    warnings += _unknown_variables(environment)
    for key, (value, spelling) in flags.items():
        values[key] = _checked(key, value, f"flag {spelling}")
        origins[key] = f"flag {spelling}"
    config = Config(**{_NAMES[key]: value for key, value in values.items()})
    return Loaded(config=config, origins=origins, warnings=warnings)


def read_rules_file(path: str) -> list[SamplingRuleRecord]:
    """The sampling rules in a YAML file, or a JSON file by its name.

    Raises:
        ConfigError: it cannot be read, or what is wrong with which rule.
    """
    import json  # noqa: PLC0415 - only paid for where there is a file

    import yaml  # noqa: PLC0415

    from xrayd.sampling.rulefile import read_rules  # noqa: PLC0415

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
            modified_at = os.fstat(file.fileno()).st_mtime
        content = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not valid YAML or JSON: {reason}") from error
    return read_rules(content, path, modified_at=modified_at)


def _read_file(path: str) -> Iterable[tuple[str, Any, int]]:
    """Yield (dotted key, plain value, line) of a YAML mapping, sections flattened."""
    import yaml  # noqa: PLC0415 - only paid for where there is a file

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path}: must be a mapping of settings, such as `Region: eu-west-1`")
        yield from _flatten(loader, root, "", path, yaml)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" line {place.line + 1}" if place else ""
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{path}{where}: not valid YAML: {problem}") from error
    finally:
        loader.dispose()


def _flatten(
    loader: Any, node: Any, prefix: str, path: str, yaml: Any
) -> Iterable[tuple[str, Any, int]]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = prefix + str(loader.construct_object(key_node, deep=True))
        if key in seen:
            raise ConfigError(f"{path} line {line}: {key} stands here twice; keep one of them")
        seen.add(key)
        is_section = any(name.startswith(key + ".") for name in _known_keys())
        if isinstance(value_node, yaml.MappingNode) and (is_section or not prefix):
            yield from _flatten(loader, value_node, key + ".", path, yaml)
        elif is_section and loader.construct_object(value_node, deep=True) is None:
            continue  # an empty section, every line of it commented out
        else:
            yield key, loader.construct_object(value_node, deep=True), line


def _known_keys() -> list[str]:
    return [*_NAMES, *_UNSUPPORTED_KEYS, *_MIGRATED_KEYS, "Version"]


def _key_problem(key: str) -> str:
    """Why a key cannot be taken, or an empty string."""
    if key in _NAMES:
        return ""
    if key in _UNSUPPORTED_KEYS:
        return f"{key} is no longer supported{_HINTS.get(key, '')}; remove it"
    if key in _MIGRATED_KEYS:
        return f"{key} has moved; write it as {_MIGRATED_KEYS[key]}"
    return f"unknown key {key}{_suggestion(key, [*_NAMES, 'Version'])}"


def _suggestion(word: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 - only for who made a mistake

    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]}?" if close else ""


def _unknown_variables(environment: Mapping[str, str]) -> Iterable[str]:
    known = {option.variable for option in options()}
    for name in environment:
        # Kubernetes puts XRAYD_PORT… and XRAYD_SERVICE_… into every container beside a Service
        # that is called xrayd, so an unknown variable cannot be fatal.
        kubernetes = name.startswith(("XRAYD_PORT", "XRAYD_SERVICE_"))
        if name.startswith("XRAYD_") and name not in known and not kubernetes:
            yield f"{name}: no such setting{_suggestion(name, known)}; ignored"


def _from_text(key: str, text: str, place: str) -> Any:
    """A variable's text as the setting's type; lists are separated by commas."""
    default = _SETTINGS[_NAMES[key]].default
    if isinstance(default, bool):
        if text.lower() in ("1", "t", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "f", "false", "no", "off", ""):
            return False
        raise ConfigError(f"{place}: {key} is true or false, not {text!r}")
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError as error:
            raise ConfigError(f"{place}: {key} is a number, not {text!r}") from error
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _checked(key: str, value: Any, place: str) -> Any:
    """The value, of its setting's type and in range."""
    setting = _SETTINGS[_NAMES[key]]
    default = _SETTINGS[_NAMES[key]].default
    if value is None:
        return default  # `Region:` with nothing behind it
    # YAML reads the word off, where it is not quoted, as false.
    value = "off" if value is False and "off" in setting.choices else value
    if isinstance(default, str) and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(default, tuple) and isinstance(value, str):
        value = _from_text(key, value, place)
    if isinstance(default, tuple) and isinstance(value, list):
        value = tuple(value)
    if type(value) is not type(default):
        wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        expected = wanted.get(type(default), "a list of texts")
        raise ConfigError(f"{place}: {key} must be {expected}, not {value!r}")
    if isinstance(value, tuple) and not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{place}: {key} must be a list of texts, not {value!r}")
    choices = setting.choices
    if choices:
        value = str(value).lower()
        if value not in choices:
            hint = _suggestion(value, choices)
            raise ConfigError(f"{place}: {key} is one of {', '.join(choices)}, not {value!r}{hint}")
    if setting.minimum is not None and value < setting.minimum:
        raise ConfigError(f"{place}: {key} must be at least {setting.minimum}, not {value}")
    if setting.maximum is not None and value > setting.maximum:
        raise ConfigError(f"{place}: {key} must be at most {setting.maximum}, not {value}")
    if key == "TotalBufferSizeMB" and value != 0 and value < 3:
        # The X-Ray daemon's own limit and exit code.
        raise ConfigError(f"{place}: {key} must be at least 3 MB (or 0), not {value}")
    return value
