"""The published vectors hold, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from pulp_runtime.abi import codec
from pulp_runtime.abi.config import encode_config
from pulp_runtime.abi.envelope import IDLE_BYTES, encode_step, event_prefix, idle_envelope
from pulp_runtime.abi.http import HTTPRequest, encode_http_request
from pulp_runtime.manifest.toml import Source, parse_toml

VECTORS = Path(__file__).parents[2] / "vectors"


class WSFrame(msgspec.Struct):
    conn_id: int = 0
    opcode: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    payload: bytes = b""


def rows(file: str, /, **wanted: str) -> list[Any]:
    """Return the vectors of a file as test parameters, or those of one record."""
    found = json.loads((VECTORS / f"{file}.json").read_text(encoding="utf-8"))
    return [
        pytest.param(row, id=row["name"]) for row in found if all(row[key] == value for key, value in wanted.items())
    ]


def from_json(value: Any) -> object:
    """Undo what the README says about values that JSON lacks."""
    if isinstance(value, dict):
        if set(value) == {"bytes"}:
            return bytes.fromhex(value["bytes"])
        return {key: from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return value


@pytest.mark.parametrize("row", rows("config"))
def test_a_config_value_has_the_published_bytes(row: Any) -> None:
    config = parse_toml(Source(Path("pulp.cell.toml"), f"x = {row['toml']}\n"))

    encoded = encode_config(config, local_offset_seconds=row["local_offset_seconds"])

    assert encoded.hex() == "81a178" + row["hex"]


@pytest.mark.parametrize("row", rows("envelope"))
def test_an_envelope_has_the_published_header(row: Any) -> None:
    """The payload of this vector is no event, so the header is compared through an event of its size."""
    size = len(bytes.fromhex(row["payload"]))
    header = idle_envelope(row["call_number"], row["wall_time_ns"])
    step = encode_step(row["call_number"], row["wall_time_ns"], "k", b"\x01")
    event = event_prefix("k") + b"\x01"

    assert header[:16] + size.to_bytes(4, "little") + bytes.fromhex(row["payload"]) == bytes.fromhex(row["hex"])
    assert step == header[:16] + len(event).to_bytes(4, "little") + event


@pytest.mark.parametrize("row", rows("step_event"))
def test_a_step_event_has_the_published_bytes(row: Any) -> None:
    payload = None if row["payload"] is None else bytes.fromhex(row["payload"])

    assert encode_step(1, 2, row["kind"], payload)[IDLE_BYTES:].hex() == row["hex"]


@pytest.mark.parametrize("row", rows("struct"))
def test_a_record_is_read_back_field_by_field(row: Any) -> None:
    fields = codec.decode_liberal(bytes.fromhex(row["hex"]))

    assert fields == from_json(row["fields"])
    assert list(fields) == list(row["fields"])  # type: ignore[call-overload]  # a dict, as the line above proves


@pytest.mark.parametrize("row", rows("struct", record="HTTPRequest"))
def test_a_request_is_read_back_as_a_struct(row: Any) -> None:
    request = codec.decode_struct(bytes.fromhex(row["hex"]), HTTPRequest)

    assert request == HTTPRequest(**from_json(row["fields"]))  # type: ignore[arg-type]


@pytest.mark.parametrize("row", rows("struct", record="WSFrame"))
def test_a_frame_is_read_back_and_written_with_its_widths(row: Any) -> None:
    frame = codec.decode_struct(bytes.fromhex(row["hex"]), WSFrame)
    written = [
        codec.map_header(3),
        codec.encode_str("conn_id"),
        codec.encode_u64(frame.conn_id),
        codec.encode_str("opcode"),
        codec.encode_u8(frame.opcode),
        codec.encode_str("payload"),
        codec.encode_bin(frame.payload),
    ]

    assert b"".join(written).hex() == row["hex"]


def test_a_request_is_written_as_published() -> None:
    row = rows("struct", name="a request as the host sends it, maps always maps")[0].values[0]

    written = encode_http_request(1, "GET", "/x", params={}, query={}, headers={}, body=b"", remote_addr="")

    assert written.hex() == row["hex"]


@pytest.mark.parametrize("row", rows("routing_id"))
def test_a_routing_id_counts_the_bytes_of_its_parts(row: Any) -> None:
    parts = "|".join(f"{len(part.encode())}:{part}" for part in row["parts"])

    assert f"pulp-scope/v1/{parts}" == row["id"]
