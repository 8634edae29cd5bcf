"""Where settings come from: default < file < environment < flags, merged and checked here."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from xrayd.config import Config, Option, options
from xrayd.errors import ConfigError

if TYPE_CHECKING:
    from xrayd.sampling.rule import SamplingRuleRecord

DEFAULT_FILES = ("/etc/amazon/xray/cfg.yaml", "cfg.yaml")

_OPTIONS = {option.key: option for option in options()}

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
# No setting has a use for such a number, and arithmetic that takes bytes or seconds fails with it.
_NUMBER_BEYOND = 10**12
_HINTS = {"Logging.LogFormat": "; use Logging.Format"}
# What PyYAML raises for `!!timestamp x`, `!!int ""` and the like.
_NOT_AS_TAGGED = (AttributeError, LookupError)


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
    origins = dict.fromkeys(_OPTIONS, "default")
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
    for option in _OPTIONS.values():
        text = environment.get(option.variable)
        if text is not None:
            value = _from_text(option.key, text, option.variable)
            values[option.key] = _checked(option.key, value, option.variable)
            origins[option.key] = option.variable
    warnings += _unknown_variables(environment)
    for key, (value, spelling) in flags.items():
        values[key] = _checked(key, value, f"flag {spelling}")
        origins[key] = f"flag {spelling}"
    config = Config(**{_OPTIONS[key].name: value for key, value in values.items()})
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
        with open(path, encoding="utf-8-sig") as file:  # some editors begin a file with a BOM
            text = file.read()
            modified_at = os.fstat(file.fileno()).st_mtime
        if path.endswith(".json"):
            content = json.loads(text, object_pairs_hook=_each_once)
        else:
            content = _load_yaml_once(text, yaml)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not valid YAML or JSON: {reason}") from error
    except _NOT_AS_TAGGED as error:
        raise ConfigError(f"{path}: a value is not what its YAML tag says") from error
    return read_rules(content, path, modified_at=modified_at)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose readers would take the last of two values without a word."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twin} stands twice in one object; keep one of them")
    return fields


def _load_yaml_once(text: str, yaml: Any) -> Any:
    """What a YAML document says, where no mapping in it has a key twice."""
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        nodes, seen = [root], set()
        while nodes:
            node = nodes.pop()
            if id(node) in seen or isinstance(node, yaml.ScalarNode):
                continue  # seen: an alias may even stand within what it names
            seen.add(id(node))
            if isinstance(node, yaml.SequenceNode):
                nodes += node.value
                continue
            keys: set[str] = set()
            for key, value in node.value:
                nodes.append(value)
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        line = key.start_mark.line + 1
                        raise ValueError(f"line {line}: {key.value} stands here twice; keep one")
                    keys.add(key.value)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _read_file(path: str) -> Iterable[tuple[str, Any, int]]:
    """Yield (dotted key, plain value, line) of a YAML mapping, sections flattened."""
    import yaml  # noqa: PLC0415 - only paid for where there is a file

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path}: must be a mapping of settings, such as `Region: eu-west-1`")
        yield from _flatten(loader, root, "", path, yaml)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" line {place.line + 1}" if place else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{path}{where}: not valid YAML: {problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    finally:
        if loader is not None:
            loader.dispose()


def _flatten(
    loader: Any, node: Any, prefix: str, path: str, yaml: Any
) -> Iterable[tuple[str, Any, int]]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = prefix + str(_plain(loader, key_node, f"{path} line {line}"))
        if key in seen:
            raise ConfigError(f"{path} line {line}: {key} stands here twice; keep one of them")
        seen.add(key)
        is_section = any(name.startswith(key + ".") for name in _known_keys())
        if isinstance(value_node, yaml.MappingNode) and (is_section or not prefix):
            yield from _flatten(loader, value_node, key + ".", path, yaml)
        elif is_section and loader.construct_object(value_node, deep=True) is None:
            continue  # an empty section, every line of it commented out
        else:
            yield key, _plain(loader, value_node, f"{path} line {line}: {key}"), line


def _plain(loader: Any, node: Any, place: str) -> Any:
    try:
        return loader.construct_object(node, deep=True)
    except ValueError as error:  # a date that is none, a number of thousands of digits
        raise ConfigError(f"{place}: {error}") from error
    except _NOT_AS_TAGGED as error:
        raise ConfigError(f"{place}: this is not what its YAML tag says") from error


def _is_clean(text: str) -> bool:
    """Whether text can be sent to AWS and name a file."""
    try:
        text.encode()
    except UnicodeError:
        return False
    return "\0" not in text


def _known_keys() -> list[str]:
    return [*_OPTIONS, *_UNSUPPORTED_KEYS, *_MIGRATED_KEYS, "Version"]


def _key_problem(key: str) -> str:
    """Why a key cannot be taken, or an empty string."""
    if key in _OPTIONS:
        return ""
    if key in _UNSUPPORTED_KEYS:
        return f"{key} is no longer supported{_HINTS.get(key, '')}; remove it"
    if key in _MIGRATED_KEYS:
        return f"{key} has moved; write it as {_MIGRATED_KEYS[key]}"
    return f"unknown key {key}{_suggestion(key, [*_OPTIONS, 'Version'])}"


def _suggestion(word: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 - only for who made a mistake

    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]}?" if close else ""


def _unknown_variables(environment: Mapping[str, str]) -> Iterable[str]:
    known = {option.variable for option in _OPTIONS.values()}
    for name in environment:
        # Kubernetes puts XRAYD_PORT… and XRAYD_SERVICE_… into every container beside a Service
        # that is called xrayd, so an unknown variable cannot be fatal.
        kubernetes = name.startswith(("XRAYD_PORT", "XRAYD_SERVICE_"))
        if name.startswith("XRAYD_") and name not in known and not kubernetes:
            yield f"{name}: no such setting{_suggestion(name, known)}; ignored"


def _from_text(key: str, text: str, place: str) -> Any:
    """A variable's text as the setting's type; lists are separated by commas."""
    default = _OPTIONS[key].default
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
    option = _OPTIONS[key]
    default = option.default
    if value is None:
        return default  # `Region:` with nothing behind it
    # YAML reads the word off, where it is not quoted, as false.
    value = "off" if value is False and "off" in option.choices else value
    if isinstance(default, str) and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, int) and abs(value) >= _NUMBER_BEYOND:
        raise ConfigError(f"{place}: {key} must be a number of fewer digits")
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
    choices = option.choices
    if choices:
        value = str(value).lower()
        if value not in choices:
            hint = _suggestion(value, choices)
            raise ConfigError(f"{place}: {key} is one of {', '.join(choices)}, not {value!r}{hint}")
    _check_range(option, value, place)
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and not _is_clean(text):
            raise ConfigError(f"{place}: {key} must be UTF-8 without NUL, not {value!r}")
    return value


def _check_range(option: Option, value: Any, place: str) -> None:
    key = option.key
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{place}: {key} must be a number, not {value}")
    if option.minimum is not None and value < option.minimum:
        raise ConfigError(f"{place}: {key} must be at least {option.minimum}, not {value}")
    if option.maximum is not None and value > option.maximum:
        raise ConfigError(f"{place}: {key} must be at most {option.maximum}, not {value}")
    if key == "TotalBufferSizeMB" and value != 0 and value < 3:
        # The X-Ray daemon's own limit and exit code.
        raise ConfigError(f"{place}: {key} must be at least 3 MB (or 0), not {value}")
