"""What an operator sets for a capability: in the host's configuration, or in the environment by its published name."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import msgspec

from pulp_runtime.ext import ExtensionError, SetupEnv

S = TypeVar("S", bound=msgspec.Struct)


class Variable(NamedTuple):
    """An environment variable that stands in for a setting.

    Attributes:
        name: of the variable; an empty value counts as none.
        separator: between the parts of one that holds a list.
    """

    name: str
    separator: str = ","


def operator_settings(env: SetupEnv, kind: type[S], variables: Mapping[str, Variable]) -> S:
    """Return what the operator set; a setting in `SetupEnv.config` goes before its variable, both before the default.

    Args:
        env: what the capability is set up with.
        kind: a frozen struct with `forbid_unknown_fields` and a default for every field. A list is a `tuple` of words;
            in a variable its parts are trimmed and empty ones left out.
        variables: by the name of the setting.

    Raises:
        ExtensionError: naming the setting, or the variable, and what is wrong with it.
    """
    given = dict(env.config)
    hints = typing.get_type_hints(kind)
    named = {}
    for setting, variable in variables.items():
        text = os.environ.get(variable.name, "")
        if setting in given or not text.strip():
            continue
        named[setting] = f"${variable.name}"
        is_list = typing.get_origin(hints[setting]) is tuple
        parts = [part.strip() for part in text.split(variable.separator)] if is_list else []
        given[setting] = [part for part in parts if part] if is_list else text.strip()
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        where = re.search(r"`\$\.(\w+)", str(error))
        setting = where[1] if where else ""
        raise ExtensionError(f"{named.get(setting, setting or 'config')}: {error}") from None
