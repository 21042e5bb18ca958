"""Settings as dictionaries and as TOML: in, out, and what is wrong with a file."""

import collections.abc
import dataclasses
import difflib
import sys
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from miase.config import RunConfig
from miase.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested dictionaries and lists, ready for TOML or JSON."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in ((f.name, getattr(config, f.name)) for f in dataclasses.fields(config))
        if not dataclasses.is_dataclass(value)
    } | {
        f.name: to_dict(getattr(config, f.name))
        for f in dataclasses.fields(config)
        if dataclasses.is_dataclass(getattr(config, f.name))
    }


def from_dict(kind: type[Config], values: dict[str, Any], where: str = "") -> Config:
    """The inverse of ``to_dict``.

    Args:
        kind: dataclass to make.
        values: its fields; missing ones take their defaults.
        where: what to call the source in messages.

    Raises:
        ConfigError: a key is unknown (the message names the nearest) or a value has the wrong type.
    """
    hints = typing.get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(hints)}"
            raise ConfigError(f"unknown key {key!r}{where}; {hint}")
        arguments[key] = _convert(hints[key], value, key, where)
    for part in dataclasses.fields(kind):  # type: ignore[arg-type]
        needed = part.default is part.default_factory is dataclasses.MISSING
        if needed and part.name not in arguments:
            raise ConfigError(f"{part.name} is missing{where}; give it")
    return kind(**arguments)


def _convert(hint: Any, value: Any, key: str, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{key}{where} is {value!r}; it must be a table")
        return from_dict(hint, value, f" in [{key}]{where}")
    origin = typing.get_origin(hint)
    if origin is collections.abc.Mapping:
        kind = typing.get_args(hint)[1]
        if not isinstance(value, dict):
            raise ConfigError(f"{key}{where} is {value!r}; it must hold tables, such as [{key}.name]")
        return {name: _convert(kind, item, f"{key}.{name}", where) for name, item in value.items()}
    if origin is tuple:
        kinds = typing.get_args(hint)
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key}{where} is {value!r}; it must be a list")
        if kinds[-1] is Ellipsis:
            kinds = (kinds[0],) * len(value)
        if len(kinds) != len(value):
            raise ConfigError(f"{key}{where} is {value!r}; it must have {len(kinds)} values")
        return tuple(_convert(k, v, key, where) for k, v in zip(kinds, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{key}{where} is {value!r}; it must be of type {hint.__name__}")
    return value


def load_toml(path: Path) -> RunConfig:
    """Settings from a TOML file.

    Raises:
        ConfigError: the file is missing, is no TOML, or holds a key or value that is not allowed.
    """
    return from_dict(RunConfig, read_toml(path), f" of {path}")


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file as they stand.

    Raises:
        ConfigError: the file is missing or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def dump_toml(config: RunConfig) -> str:
    """Settings as the text of a TOML file."""
    return tomli_w.dumps(to_dict(config))
