"""`storage.sqlite` over PostgreSQL, for Pulp cells: the same imports, messages and codes, another database.

settings    what the operator says: the server, and whether cells are kept apart
lexer       SQL as tokens
dialect     SQLite's dialect in PostgreSQL's words, one statement at a time
parameters  MessagePack values as parameters
rows        rows as MessagePack
wire        one connection: every wait ends at the caller's deadline
session     one cell's connection: statements, transactions, errors as codes
rooms       whose schema, and whose login, a cell's connection has
database    the host functions
"""

from pulp_ext_postgres.database import capability as capability
from pulp_ext_postgres.settings import NAME as NAME
