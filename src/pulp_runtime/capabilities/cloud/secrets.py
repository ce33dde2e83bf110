"""`cloud.secrets`: what an operator entrusts to a program, one file each, read when it is opened and never kept.

program ── open /beta/secrets/stripe_key ──▶ granted? ──▶ Source ──▶ the operator's folder or file, as it is now
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from pulp_runtime.capabilities.cloud.secrets_source import Secret, SecretFile, SecretFolder, SecretRefused, Source
from pulp_runtime.capabilities.operator import operator_settings
from pulp_runtime.ext import (
    Bytes,
    Capability,
    CellRef,
    Entry,
    ExtensionError,
    File,
    How,
    Kind,
    Node,
    PerCell,
    Run,
    SetupEnv,
    Stat,
)
from pulp_runtime.ext.tree import Parts

NAME: Final = "cloud.secrets"
PATH: Final = "/beta/secrets"

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class CloudSecretsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator may set: one of the two.

    Attributes:
        folder: a folder with a file for each secret.
        file: a TOML file with all of them.
    """

    folder: str = ""
    file: str = ""


class SecretsNode(Node):
    """The secrets of one cell; only those that are granted are there.

    Args:
        cell: whose.
        source: where they are looked up.
    """

    def __init__(self, cell: CellRef, source: Source) -> None:
        self._cell: Final = cell
        self._source: Final = source
        self._names: Final = sorted(cell.grants.secrets)

    def _find(self, name: str) -> Secret | None:
        try:
            return self._source.find(self._cell.namespace, name)
        except SecretRefused as refused:
            self._cell.log.error("secret refused", secret=name, reason=refused.strerror)
            code = refused.errno or errno.EIO
        raise OSError(code, "the log says why")

    def _granted(self, parts: Parts) -> Secret:
        found = self._find(parts[0]) if parts[0] in self._names else None
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "not there, or not granted")
        if len(parts) > 1:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        return found

    @property
    def read_only(self) -> bool:
        """See `Node.read_only`."""
        return True

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`: the secret as it is now."""
        if how.changes:
            raise _read_only()
        if not parts:
            return self
        found = self._granted(parts)
        if how.folder:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        return OpenSecret(found)

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        return _stat(self._granted(parts)) if parts else Stat(Kind.FOLDER)

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`: those that are granted, and there; one that is refused when it is opened among them."""
        for name in self._names:
            try:
                there = self._find(name) is not None
            except OSError:
                there = True
            if there:
                yield Entry(name, Kind.FILE)

    def link(self, parts: Parts, to: Node, to_parts: Parts, *, follow: bool = False) -> None:
        """See `Node.link`."""
        raise _read_only()

    def symlink(self, target: str, parts: Parts) -> None:
        """See `Node.symlink`."""
        raise _read_only()


class OpenSecret(Bytes):
    """A secret that is read: as it was when it was opened."""

    def __init__(self, secret: Secret) -> None:
        super().__init__(secret.value)
        self._stat: Final = _stat(secret)

    def stat(self) -> Stat:
        """See `File.stat`."""
        return self._stat


def _stat(secret: Secret) -> Stat:
    at = secret.modified_ns
    return Stat(Kind.FILE, len(secret.value), accessed_ns=at, modified_ns=at, changed_ns=at)


def _read_only() -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS))


class CloudSecrets(PerCell[SecretsNode]):
    """Mounts the secrets that a program has been granted."""

    def __init__(self) -> None:
        super().__init__()
        self._source: Source | None = None

    def setup(self, env: SetupEnv) -> None:
        """Remember where secrets are.

        Raises:
            ExtensionError: the operator's settings are wrong.
        """
        config = operator_settings(env, CloudSecretsConfig, {})
        if config.folder and config.file:
            raise ExtensionError(f"{NAME}: folder and file are both set; remove one of them from its settings")
        if config.folder:
            self._source = SecretFolder(Path(config.folder).absolute())
        elif config.file:
            self._source = SecretFile(Path(config.file).absolute())

    def setup_cell(self, cell: CellRef) -> None:
        """Remember what a cell has been granted; say what of it is not there yet.

        Raises:
            ExtensionError: it has been granted secrets, and the operator has not said where they are.
        """
        for name in cell.grants.secrets:
            if not _NAME.fullmatch(name):
                raise ExtensionError(f"{cell.manifest}: cloud.secrets: {name!r} is no name of a secret; rename it")
        source = self._source
        if source is None:
            if cell.grants.secrets:
                raise ExtensionError(
                    f'{NAME}: no source is set; write folder = "/path" under ["{NAME}"] in the host\'s configuration'
                )
            self.teardown_cell(cell.id)
            return
        for name in cell.grants.secrets:
            try:
                if source.find(cell.namespace, name) is None:
                    cell.log.warning("secret is not there yet", secret=name)
            except SecretRefused as refused:
                cell.log.warning("secret will be refused", secret=name, reason=refused.strerror)
        self.keep(cell.id, SecretsNode(cell, source))

    def mount(self, run: Run) -> None:
        """Add `/beta/secrets` for a cell that has been granted some."""
        node = self.in_use(run.cell.id)
        if node is not None and run.cell.grants.secrets:
            run.tree.add(PATH, node)


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of(NAME, CloudSecrets())
