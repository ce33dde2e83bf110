"""Capabilities made of plain functions, for the cell that is tested without the real ones."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

from pulp_runtime.ext import Capability, CellRef, Guest, HostFunction, Linker, host_function
from pulp_runtime.ext.function import host_functions

Answer = Callable[..., Any] | int | tuple[int, Callable[..., int] | int]


class Fake:
    """A capability whose functions are what a test says they are.

        def kv_get(key: str) -> bytes:
            return b"42"

        Fake("storage.kv", kv_get=kv_get, kv_set=(4, 0), kv_delete=2)

    Args:
        name: of the capability.
        functions: by import name, one of
            * a function with annotations: they are the wasm signature, as for `ext.host_function`; raise `HostError`
              to answer a code;
            * how many words it takes: it answers 0;
            * (words, code): it answers the code;
            * (words, function): `function(guest, word, …) -> code`, as for `Linker.define`.

    Attributes:
        capability: what a registry takes.

    Raises:
        ExtensionError: annotations that have no wasm signature.
        TypeError: a function without annotations and without its number of words.
    """

    def __init__(self, name: str, /, **functions: Answer) -> None:
        imports: dict[str, HostFunction] = {}
        for import_name, answer in functions.items():
            imports[import_name] = _import(import_name, answer)

        def register(linker: Linker, _cell: CellRef) -> None:
            for function in imports.values():
                linker.define(function.name, function.words, function.invoke)

        self.capability: Final = Capability(
            name=name, register=register, provider="pulp_runtime.testing", functions=imports
        )


def _import(name: str, answer: Answer) -> HostFunction:
    if callable(answer):
        return _annotated(name, answer)
    words, answers = (answer, 0) if isinstance(answer, int) else answer
    if callable(answers):
        return HostFunction(name, words, answers, False, "", "")

    def answer_code(_guest: Guest, *_words: int) -> int:
        return answers

    return HostFunction(name, words, answer_code, False, "", "")


def _annotated(name: str, function: Callable[..., Any]) -> HostFunction:
    if any(
        parameter.annotation is inspect.Parameter.empty for parameter in inspect.signature(function).parameters.values()
    ):
        raise TypeError(f"{name}: annotate its parameters, or give the number of words with it: (words, function)")

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return function(*arguments)

    marked: Callable[..., Any] = host_function(name=name)(call)
    owner = type("Owner", (), {name: staticmethod(marked)})
    return host_functions(owner())[name]
