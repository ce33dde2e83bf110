"""Statements and queries in the manner of sqllogictest: files of its public corpus, or made up by a seed.

A record is a statement or a query with the way its rows are sorted. Whether an answer is right is not for the file to
say here: the same record is run through Python's `sqlite3`, and both must answer the same.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """One entry.

    Attributes:
        sql: its text.
        query: whether rows are expected.
    """

    sql: str
    query: bool


def parsed(text: str, engine: str = "sqlite") -> Iterator[Record]:
    """Return the records of a sqllogictest file that are meant for `engine`."""
    for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        lines = [line for line in block.split("\n") if line.strip() and not line.startswith("#")]
        meant = True
        while lines and lines[0].split()[0] in ("onlyif", "skipif"):
            word, other = lines.pop(0).split()[:2]
            meant = meant and (other == engine) == (word == "onlyif")
        if not lines or not meant:
            continue
        kind, *body = lines
        if kind.startswith("halt"):
            return
        if kind.startswith(("statement", "query")):
            sql = []
            for line in body:
                if line.startswith("----"):
                    break
                sql.append(line)
            yield Record("\n".join(sql), kind.startswith("query"))


class Maker:
    """Makes up a schema, rows and queries, always the same for one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._tables = [f"tab{number}" for number in range(4)]

    def records(self, count: int) -> Iterator[Record]:
        """Return the schema, some rows, and then so many records."""
        yield from self._schema()
        for _ in range(count):
            yield self._random.choices(
                [self._select, self._grouped, self._joined, self._compound, self._change, self._wrong, self._strange],
                [30, 20, 20, 10, 12, 4, 4],
            )[0]()

    def _schema(self) -> Iterator[Record]:
        for table in self._tables:
            yield Record(
                f"CREATE TABLE {table} (pk INTEGER PRIMARY KEY, a INTEGER, b REAL, c TEXT, d BLOB, e NUMERIC)", False
            )
            for column in self._random.sample("abce", 2):
                unique = ""
                yield Record(f"CREATE {unique}INDEX {table}_{column} ON {table} ({column})", False)
            for _ in range(self._random.randrange(5, 25)):
                yield self._insert(table)
        yield Record("CREATE VIEW v1 AS SELECT pk, a, c FROM tab0 WHERE a > 0", False)

    def _insert(self, table: str) -> Record:
        values = ", ".join(self._literal() for _ in range(5))
        return Record(f"INSERT INTO {table} (a, b, c, d, e) VALUES ({values})", False)

    def _literal(self) -> str:
        pick = self._random.randrange(9)
        if pick == 0:
            return "NULL"
        if pick <= 3:
            return str(self._random.randrange(-100, 100))
        if pick == 4:
            return str(self._random.choice([0, 1, -1, 9223372036854775807, -9223372036854775807, 4294967296]))
        if pick == 5:
            return repr(round(self._random.uniform(-1000, 1000), self._random.randrange(6)))
        if pick == 6:
            return self._random.choice(["x''", "x'00ff'", "x'616263'"])
        letters = "".join(self._random.choice("abcdefgäß🍌'") for _ in range(self._random.randrange(6)))
        return "'" + letters.replace("'", "''") + "'"

    def _column(self) -> str:
        return self._random.choice(["pk", "a", "b", "c", "d", "e"])

    def _expression(self, depth: int = 3, table: str = "") -> str:
        sub = lambda: self._expression(depth - 1, table)  # noqa: E731
        name = f"{table}{self._column()}"
        pick = self._random.randrange(16) if depth else self._random.randrange(2)
        forms = [
            lambda: name,
            self._literal,
            lambda: f"{sub()} + {sub()}",
            lambda: f"{sub()} * ({sub()} - {sub()})",
            lambda: f"({sub()}) / ({sub()})",
            lambda: f"- {sub()}",
            lambda: f"CASE WHEN {self._condition(depth - 1, table)} THEN {sub()} ELSE {sub()} END",
            lambda: f"COALESCE({sub()}, {sub()})",
            lambda: f"NULLIF({sub()}, {sub()})",
            lambda: f"{sub()} || {sub()}",
            lambda: f"CAST({sub()} AS {self._random.choice(['INTEGER', 'REAL', 'TEXT', 'NUMERIC', 'BLOB'])})",
            lambda: f"{self._random.choice(['abs', 'length', 'upper', 'typeof', 'hex', 'quote', 'round'])}({sub()})",
            lambda: f"({self._condition(depth - 1, table)})",
            lambda: f"({sub()}) % ({sub()})",
            lambda: f"({sub()}) << {self._random.randrange(5)}",
            lambda: f"substr({sub()}, {self._random.randrange(-3, 4)})",
        ]
        return forms[pick]()

    def _condition(self, depth: int = 2, table: str = "") -> str:
        sub = lambda: self._expression(max(0, depth - 1), table)  # noqa: E731
        pick = self._random.randrange(9) if depth > 0 else 0
        forms = [
            lambda: f"{sub()} {self._random.choice(['=', '<>', '<', '<=', '>', '>=', 'IS', 'IS NOT'])} {sub()}",
            lambda: f"{sub()} BETWEEN {sub()} AND {sub()}",
            lambda: f"{sub()} IN ({', '.join(self._literal() for _ in range(self._random.randrange(4)))})",
            lambda: f"{sub()} IS NULL",
            lambda: f"NOT ({self._condition(depth - 1, table)})",
            lambda: f"({self._condition(depth - 1, table)} AND {self._condition(depth - 1, table)})",
            lambda: f"({self._condition(depth - 1, table)} OR {self._condition(depth - 1, table)})",
            lambda: f"{sub()} LIKE '{self._random.choice(['%a%', '_b%', 'ä%', '%'])}'",
            lambda: f"{sub()} IN (SELECT a FROM {self._random.choice(self._tables)})",
        ]
        return forms[pick]()

    def _select(self) -> Record:
        columns = ", ".join(self._expression() for _ in range(self._random.randrange(1, 4)))
        distinct = self._random.choice(["", "DISTINCT ", "ALL "])
        source = self._random.choice([*self._tables, "v1"])
        if source == "v1":
            return Record(f"SELECT {distinct}pk, a + 1, c FROM v1 ORDER BY 1 DESC LIMIT 5", True)
        limit = self._random.choice(["", "", " LIMIT 3", " LIMIT 2 OFFSET 1"])
        return Record(f"SELECT {distinct}{columns} FROM {source} WHERE {self._condition()} ORDER BY pk{limit}", True)

    def _grouped(self) -> Record:
        function = self._random.choice(["count", "sum", "avg", "min", "max", "total", "group_concat"])
        distinct = self._random.choice(["", "DISTINCT "])
        table = self._random.choice(self._tables)
        if self._random.random() < 0.4:
            return Record(f"SELECT {function}({distinct}{self._expression()}), count(*) FROM {table}", True)
        by = self._random.choice("acde")
        having = self._random.choice(["", " HAVING count(*) > 1", f" HAVING {by} IS NOT NULL"])
        return Record(
            f"SELECT {by} AS g, {function}({distinct}{self._column()}), count(*) FROM {table} GROUP BY {by}{having} "
            "ORDER BY 1, 2, 3",
            True,
        )

    def _joined(self) -> Record:
        one, two = self._random.sample(self._tables, 2)
        join = self._random.choice(["JOIN", "LEFT JOIN", "CROSS JOIN", ","])
        on = "" if join in ("CROSS JOIN", ",") else f" ON x.{self._column()} = y.{self._column()}"
        where = f" WHERE {self._condition(2, 'x.')}" if self._random.random() < 0.7 else ""
        return Record(
            f"SELECT x.pk, {self._expression(2, 'y.')}, x.c FROM {one} AS x {join} {two} AS y{on}{where} "
            "ORDER BY 1, 2, 3 LIMIT 50",
            True,
        )

    def _compound(self) -> Record:
        word = self._random.choice(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"])
        one, two = (self._random.choice(self._tables) for _ in range(2))
        column, other = self._column(), self._column()
        return Record(f"SELECT {column} FROM {one} {word} SELECT {other} FROM {two} ORDER BY 1", True)

    def _change(self) -> Record:
        table = self._random.choice(self._tables)
        pick = self._random.randrange(5)
        if pick == 0:
            return self._insert(table)
        if pick == 1:
            column = self._random.choice("abcde")
            return Record(f"UPDATE {table} SET {column} = {self._expression(2)} WHERE {self._condition()}", False)
        if pick == 2:
            return Record(f"DELETE FROM {table} WHERE {self._condition(1)} AND pk % 7 = 0", False)
        if pick == 3:
            return Record(
                f"INSERT OR REPLACE INTO {table} (pk, a, c) VALUES ({self._random.randrange(30)}, {self._literal()}, "
                f"{self._literal()}) RETURNING pk, a, c",
                True,
            )
        return Record(self._random.choice(["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "RELEASE s"]), False)

    def _wrong(self) -> Record:
        return Record(
            self._random.choice(
                [
                    "SELECT nothing FROM tab0",
                    "SELECT * FROM nowhere",
                    "SELECT a FROM tab0 WHERE",
                    "INSERT INTO tab0 (pk) VALUES (1), (1)",
                    "INSERT INTO tab1 (pk) VALUES ('x')",
                    "SELECT abs(-9223372036854775807 - 1)",
                    "SELECT sum(9223372036854775807) FROM tab0",
                    "SELECT a, (SELECT a, b FROM tab1) FROM tab0",
                    "CREATE TABLE tab0 (x)",
                    "SELECT count(*) FROM tab0 GROUP BY count(*)",
                ]
            ),
            True,
        )

    def _strange(self) -> Record:
        return Record(
            self._random.choice(
                [
                    "SELECT 1, 1.0, '1', x'31', NULL, 1 = 1.0, '1' = 1",
                    "SELECT 9223372036854775807 + 1, -9223372036854775808, 1e308 * 10, -1e308 * 10",
                    "SELECT 0.1 + 0.2, 1e15, 1e16, 123456789012345678, 5 / 2, 5 / 2.0, -5 % 3",
                    "SELECT a, row_number() OVER (ORDER BY pk), sum(a) OVER (ORDER BY pk) FROM tab1 ORDER BY pk",
                    "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 9) SELECT i, i * i FROM n",
                    "SELECT json_extract('{\"a\": [1, 2.5, null, \"x\"]}', '$.a')",
                    "SELECT date('2026-05-01', '+1 month'), strftime('%s', '2026-05-01 12:00:00')",
                    "SELECT typeof(a), typeof(b), typeof(c), typeof(d), typeof(e) FROM tab2 ORDER BY pk",
                    "VALUES (1, 'a'), (NULL, x'00')",
                    "EXPLAIN QUERY PLAN SELECT * FROM tab0 WHERE pk = 1",
                    "PRAGMA table_info(tab3)",
                ]
            ),
            True,
        )  # fmt: skip
