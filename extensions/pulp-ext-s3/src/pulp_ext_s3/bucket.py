"""One bucket: boto3 makes and signs the requests, errors become the contract's codes (spec/capabilities §19)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pulp_runtime.ext import CellRef, Errno, Guest, HostError

from pulp_ext_s3.settings import Settings
from pulp_ext_s3.transport import MOST_BYTES, TooLong, Transport, Unsent

_MISSING: Final = {"NoSuchKey", "NotFound", "NoSuchUpload", "NoSuchVersion", "404"}
_DENIED_STATUS: Final = (401, 403)
_MOST_MARGIN: Final = 0.5


class Bucket:
    """The operator's bucket. From any thread.

    Attributes:
        client: boto3's, with its own sender replaced.
        name: of the bucket.
    """

    def __init__(self, settings: Settings) -> None:
        self.name: Final = settings.bucket
        self._transport: Final = Transport(settings.endpoint)
        self.client: Final[Any] = make_client(settings, self._transport)

    @contextmanager
    def asked_by(self, guest: Guest, function: str) -> Iterator[Any]:
        """Give out the client for one request; what goes wrong becomes a code, and a record in the cell's log.

        Raises:
            HostError: `NOT_FOUND` no such object or upload; `DENIED` the store refuses the credentials; `FAILED`
                anything else.
        """
        left = guest.seconds_left()
        try:
            # The cell is to hear of it before its own deadline passes.
            with self._transport.within(left - min(_MOST_MARGIN, left / 4)):
                yield self.client
        except ClientError as error:
            raise _refused(guest.cell, function, error.response) from None
        except TooLong:
            raise failed(guest.cell, function, f"the object has more than {MOST_BYTES:,} bytes; presign it") from None
        except Unsent as error:
            raise failed(guest.cell, function, str(error)) from None
        except BotoCoreError as error:  # its text may quote the request
            raise failed(guest.cell, function, type(error).__name__) from None

    def close(self) -> None:
        """Close its connections."""
        self._transport.close()


def failed(cell: CellRef, function: str, reason: str, code: int = Errno.FAILED) -> HostError:
    """Return a refusal that has been logged."""
    cell.log.warning("s3 call failed", function=function, code=int(code), reason=reason)
    return HostError(code, reason)


def _refused(cell: CellRef, function: str, response: dict[str, Any]) -> HostError:
    """Return what the store's answer means. Its message is left out: it may quote credentials."""
    word = str(response.get("Error", {}).get("Code", ""))[:64]
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if word in _MISSING:
        return HostError(Errno.NOT_FOUND, word)
    code = Errno.DENIED if status in _DENIED_STATUS else Errno.FAILED
    return failed(cell, function, f"{word} ({status})", code)


def make_client(settings: Settings, transport: Transport) -> Any:
    """Return a client that takes nothing from the machine it runs on: no profile, no other credentials.

    Args:
        settings: the store.
        transport: sends its requests.
    """
    session = botocore.session.Session(
        # Name in a file, variables of the environment, value, conversion.
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    client = session.create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=str(settings.secret_access_key),
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            use_fips_endpoint=False,
            use_dualstack_endpoint=False,
            retries={"total_max_attempts": 1, "mode": "standard"},
            # Stores that are not Amazon's do not know the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    client.meta.events.register("before-send.s3", transport.send)
    return client
