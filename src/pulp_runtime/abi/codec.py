"""The door to MessagePack: everything that reads or writes it imports from here."""

from __future__ import annotations

from pulp_runtime.abi.encode import (
    FALSE,
    NIL,
    TRUE,
    array_header,
    bin_header,
    encode_bin,
    encode_bool,
    encode_float64,
    encode_int64,
    encode_str,
    encode_str_map,
    encode_u8,
    encode_u16,
    encode_u32,
    encode_u64,
    map_header,
    str_header,
)
from pulp_runtime.abi.liberal import MAX_NESTING, MAX_VALUES, DecodeError, Extension, decode_liberal
from pulp_runtime.abi.moment import Timestamp
from pulp_runtime.abi.typed import decode_struct, struct_decoder

__all__ = [
    "FALSE",
    "MAX_NESTING",
    "MAX_VALUES",
    "NIL",
    "TRUE",
    "DecodeError",
    "Extension",
    "Timestamp",
    "array_header",
    "bin_header",
    "decode_liberal",
    "decode_struct",
    "encode_bin",
    "encode_bool",
    "encode_float64",
    "encode_int64",
    "encode_str",
    "encode_str_map",
    "encode_u8",
    "encode_u16",
    "encode_u32",
    "encode_u64",
    "map_header",
    "str_header",
    "struct_decoder",
]
