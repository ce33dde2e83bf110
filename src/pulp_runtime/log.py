"""Records with fields, on top of the standard library's `logging`.

    log = Log("pulp").bind(cell="echo")
    log.info("cell ready", version="0.1.0")

An embedding application sees ordinary `logging` records of the logger `pulp`, whose fields are in `record.fields`.
The command line chooses one of three renderings: for people on a terminal, `key=value`, or JSON lines. Whatever a
cell writes is escaped in all of them: it can neither add a line nor colour a terminal.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar, TextIO

_PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LEVELS = {"WARNING": "WARN"}


class Log:
    """A logger whose records carry fields. Immutable: `bind` and `limited` return another one."""

    __slots__ = ("_allows", "_fields", "_logger")

    def __init__(self, name: str = "pulp", /, **fields: Any) -> None:
        self._logger = logging.getLogger(name)
        self._fields = fields
        self._allows: Callable[[int], bool] | None = None

    def bind(self, **fields: Any) -> Log:
        """Return a log whose records carry these fields too."""
        bound = Log(self._logger.name, **{**self._fields, **fields})
        bound._allows = self._allows
        return bound

    def limited(self, allows: Callable[[int], bool]) -> Log:
        """Return a log that asks `allows(bytes)` before each record, and drops it when the answer is False."""
        limited = self.bind()
        limited._allows = allows
        return limited

    def debug(self, message: str, /, **fields: Any) -> None:
        """Log what only its author wants to see."""
        self.record(logging.DEBUG, message, fields)

    def info(self, message: str, /, **fields: Any) -> None:
        """Log what an operator may want to see."""
        self.record(logging.INFO, message, fields)

    def warning(self, message: str, /, **fields: Any) -> None:
        """Log what an operator should look at."""
        self.record(logging.WARNING, message, fields)

    def error(self, message: str, /, *, exc_info: BaseException | None = None, **fields: Any) -> None:
        """Log a failure; `exc_info` adds its stack."""
        self.record(logging.ERROR, message, fields, exc_info)

    def record(self, level: int, message: str, fields: dict[str, Any], exc_info: BaseException | None = None) -> None:
        """Log at `level`; the named methods are the usual way."""
        if self._logger.isEnabledFor(level) and (self._allows is None or self._allows(len(message))):
            self._logger.log(
                level, message, exc_info=exc_info, extra={"fields": {**self._fields, **fields}}, stacklevel=3
            )


def text(value: Any) -> str:
    """Return a field's value as one word, or quoted and escaped if it is not one."""
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(text(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    plain = str(value)
    if _PLAIN.fullmatch(plain) and plain.isprintable():
        return plain
    return json.dumps(plain, ensure_ascii=not plain.isprintable())


def escape(line: str) -> str:
    """Return `line` with everything that could steer a terminal or start a line written as an escape."""
    return line if line.isprintable() else json.dumps(line)[1:-1].replace('\\"', '"')


class KeyValue(logging.Formatter):
    """`time=… level=INFO msg="cell ready" cell=echo`: what log collectors split without a grammar."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, or as several when it carries a stack."""
        pairs = {
            "time": _rfc3339(record.created),
            "level": _LEVELS.get(record.levelname, record.levelname),
            "msg": record.getMessage(),
            **_fields(record),
        }
        return " ".join(f"{key}={text(value)}" for key, value in pairs.items())


class Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        pairs = {
            "time": _rfc3339(record.created),
            "level": _LEVELS.get(record.levelname, record.levelname),
            "msg": record.getMessage(),
            **_fields(record),
        }
        return json.dumps(pairs, default=str)


class Terminal(logging.Formatter):
    """For people: the time of day, the message, and the fields that follow from it."""

    _COLOURS: ClassVar = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m"}

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one coloured line; a stack follows on lines of its own."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = _LEVELS.get(record.levelname, record.levelname)
        fields = _fields(record)
        stack = fields.pop("stack", "")
        pairs = "".join(f"  \x1b[2m{key}=\x1b[0m{text(value)}" for key, value in fields.items())
        colour = self._COLOURS.get(record.levelname, "\x1b[36m")
        line = f"\x1b[2m{clock}\x1b[0m {colour}{level:<5}\x1b[0m {escape(record.getMessage())}{pairs}"
        # Indented, because a message in the stack may hold lines of a cell's making.
        return "\n    ".join([line, *map(escape, stack.splitlines())])


def configure(renderer: str = "auto", *, level: str = "info", stream: TextIO | None = None) -> None:
    """Send the records of the logger `pulp` to `stream` (standard output). The command line does; a library does not.

    Args:
        renderer: `text` (key=value), `json`, `terminal`, or `auto`: `terminal` on one, else `text`.
        level: `debug`, `info`, `warning` or `error`.
        stream: where to.
    """
    stream = stream or sys.stdout
    if renderer == "auto":
        renderer = "terminal" if stream.isatty() else "text"
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character is no reason to lose a line
    handler = _Output(stream)
    handler.setFormatter({"text": KeyValue, "json": Json, "terminal": Terminal}[renderer]())
    logger = logging.getLogger("pulp")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


class _Output(logging.StreamHandler[TextIO]):
    """A stream that may go away: `pulp run … | head` ends the log, not the host."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Write to nowhere from now on if the reader is gone."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
        else:
            super().handleError(record)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = dict(getattr(record, "fields", {}))
    if record.exc_info:
        fields["stack"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"
