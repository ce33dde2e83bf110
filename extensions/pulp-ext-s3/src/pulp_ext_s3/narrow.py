"""Three narrow capabilities over the same bucket whose messages are not published (spec/capabilities §19).

Their names and their words are known, what stands in their messages is not. So a cell that declares one is refused,
with a sentence; one that only imports the functions is answered 99, as by any capability it has not declared.
"""

from __future__ import annotations

from pulp_runtime.ext import Capability, CellRef, Errno, ExtensionError, Guest, HostFunction, Linker

_WORDS = 4
_SIGNATURE = "(guest: Guest, request: bytes) -> bytes"


def public_upload() -> Capability:
    """Return `storage.s3.public-upload.v1`; an entry point."""
    return _narrow(
        "storage.s3.public-upload.v1",
        "s3_exact_object_presign_put",
        "s3_exact_object_validate_put",
        "s3_exact_object_delete",
    )


def download_reference() -> Capability:
    """Return `storage.s3.exact-object-download-reference.v1`; an entry point."""
    return _narrow("storage.s3.exact-object-download-reference.v1", "s3_exact_object_download_reference")


def artifact_validation() -> Capability:
    """Return `storage.s3.artifact-validation.v1`; an entry point."""
    return _narrow("storage.s3.artifact-validation.v1", "s3_exact_object_validate_artifact_zip")


def _narrow(name: str, *functions: str) -> Capability:
    def register(_linker: Linker, _cell: CellRef) -> None:
        raise ExtensionError(f"{name} is not built: what its messages hold is not published; declare storage.s3")

    def answer(_guest: Guest, *_words: int) -> int:
        return Errno.UNDECLARED

    doc = "Not built: what its messages hold is not published."
    return Capability(
        name=name,
        register=register,
        provider=__name__,
        functions={one: HostFunction(one, _WORDS, answer, False, _SIGNATURE, doc) for one in functions},
    )
