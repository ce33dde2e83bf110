"""What SQL may do: an authorizer that keeps a cell inside its own file, and bounds on what one statement may need.

SQLite asks the authorizer for everything a statement would do while it is compiled. Statements that reach outside the
file, change how SQLite looks after it, or touch what all databases of the process share are refused there; the rest of
SQL is the cell's own business.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Mapping
from typing import Final

HEAP_MB: Final = 512
"""Memory of SQLite for all cells together. A statement that needs more fails with `out of memory (7)`."""
CACHE_KIB: Final = 65_536
"""Largest page cache a cell can ask for."""

LIMITS: Final[Mapping[int, int]] = {
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1_048_576,
    sqlite3.SQLITE_LIMIT_COLUMN: 2_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 1_000,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 500,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 127,
    sqlite3.SQLITE_LIMIT_ATTACHED: 1,  # VACUUM needs one
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 32_766,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
"""SQLite's own limits, by number; `SQLITE_LIMIT_LENGTH` is a setting of the cell."""

READ_PRAGMAS: Final = frozenset(
    {
        *("auto_vacuum", "cache_spill", "cell_size_check", "collation_list", "compile_options", "data_version"),
        *("foreign_key_check", "foreign_key_list", "freelist_count", "function_list", "hard_heap_limit", "index_info"),
        *("index_list", "index_xinfo", "integrity_check", "journal_mode", "journal_size_limit", "locking_mode"),
        *("max_page_count", "mmap_size", "module_list", "page_count", "page_size", "pragma_list", "quick_check"),
        *("schema_version", "soft_heap_limit", "table_info", "table_list", "table_xinfo", "temp_store", "threads"),
        *("trusted_schema", "writable_schema"),
    }
)
"""Pragmas that may be asked; those that name a table or an index may have an argument."""
WRITE_PRAGMAS: Final = frozenset(
    {
        *("analysis_limit", "application_id", "automatic_index", "busy_timeout", "case_sensitive_like"),
        *("checkpoint_fullfsync", "defer_foreign_keys", "encoding", "foreign_keys", "full_column_names", "fullfsync"),
        *("ignore_check_constraints", "incremental_vacuum", "legacy_alter_table", "optimize", "query_only"),
        *("read_uncommitted", "recursive_triggers", "reverse_unordered_selects", "secure_delete"),
        *("short_column_names", "shrink_memory", "synchronous", "user_version", "wal_autocheckpoint"),
        *("wal_checkpoint",),
    }
)
"""Pragmas that may be set as well."""
_ABOUT: Final = frozenset(
    {
        *("foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo", "integrity_check"),
        *("quick_check", "table_info", "table_list", "table_xinfo"),
    }
)
"""Of those that may be asked, the ones with an argument that sets nothing."""

REFUSED_FUNCTIONS: Final = frozenset(
    {"edit", "fsdir", "fts3_tokenizer", "load_extension", "lsmode", "readfile", "writefile"}
)
"""Functions that reach outside the database, or into the host's memory."""
REFUSED_TABLES: Final = frozenset({"sqlite_dbpage", "csv", "zipfile", "fsdir"})
"""Virtual tables that do."""

_READS: Final = sqlite3.SQLITE_READ
_FUNCTION: Final = sqlite3.SQLITE_FUNCTION
_DENY: Final = sqlite3.SQLITE_DENY
_OK: Final = sqlite3.SQLITE_OK
_TABLE_ACTIONS: Final = frozenset(
    {sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
)


class Guard:
    """The authorizer of one connection.

    Attributes:
        refused: what it refused last, in words; "" for nothing. Whoever reports it clears it.
        vacuuming: whether the statement at hand is a VACUUM, which attaches a nameless database of its own.
        open: whether nothing is refused: for the host's own statements.
    """

    def __init__(self) -> None:
        self.refused = ""
        self.vacuuming = False
        self.open = True

    def __call__(
        self, action: int, first: str | None, second: str | None, _database: str | None, _by: str | None
    ) -> int:
        """Answer `SQLITE_OK` or `SQLITE_DENY` for one thing that a statement would do; SQLite's callback."""
        if self.open:
            return _OK
        if action in _TABLE_ACTIONS:
            problem = f"table {first}" if (first or "").lower() in REFUSED_TABLES else ""
        elif action == _FUNCTION:
            problem = f"function {second}" if (second or "").lower() in REFUSED_FUNCTIONS else ""
        elif action == sqlite3.SQLITE_PRAGMA:
            problem = _pragma_problem((first or "").lower(), second)
        elif action == sqlite3.SQLITE_ATTACH:
            problem = "" if self.vacuuming and not first else "another database (ATTACH, VACUUM INTO)"
        elif action == sqlite3.SQLITE_DETACH:
            problem = "another database (DETACH)"
        elif action == sqlite3.SQLITE_CREATE_VTABLE:
            problem = f"module {second}" if (second or "").lower() in REFUSED_TABLES else ""
        else:
            problem = ""
        if not problem:
            return _OK
        self.refused = problem
        return _DENY

    def limit(self, connection: sqlite3.Connection, value_bytes: int) -> None:
        """Set SQLite's limits, and the defences against a database file that somebody else has written."""
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, value_bytes)
        for number, most in LIMITS.items():
            connection.setlimit(number, most)
        if sys.version_info >= (3, 12):
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_TRUSTED_SCHEMA, False)
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, False)
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, False)
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "temp_store = FILE"):
            connection.execute(f"PRAGMA {pragma}")
        connection.set_authorizer(self)


def limit_heap(connection: sqlite3.Connection, megabytes: int) -> None:
    """Bound the memory of SQLite in this process; a bound that is lower already stays."""
    connection.execute(f"PRAGMA hard_heap_limit = {megabytes << 20}")


def _pragma_problem(name: str, argument: str | None) -> str:
    """Return what is wrong with a pragma, "" for nothing."""
    if name in WRITE_PRAGMAS or (name in READ_PRAGMAS and (argument is None or name in _ABOUT)):
        return ""
    if name == "journal_mode" and (argument or "").lower() == "wal":
        return ""
    if name == "locking_mode" and (argument or "").lower() == "normal":
        return ""
    if name == "cache_size" and _small_cache(argument):
        return ""
    return f"PRAGMA {name}" if argument is None else f"PRAGMA {name} = {argument[:100]}"


def _small_cache(argument: str | None) -> bool:
    if argument is None:
        return True
    try:
        size = int(argument)
    except ValueError:
        return False
    return -CACHE_KIB <= size <= CACHE_KIB // 4  # KiB when negative, else pages of 4 KiB
