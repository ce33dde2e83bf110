"""What a backend of `cloud.blob` is made of: an entry point of the group `pulp.blob_backends` returns a `Bucket`.

    [project.entry-points."pulp.blob_backends"]
    tape = "pulp_tape:connect"          # connect(bucket, namespace, options) -> Bucket

What goes wrong is an `OSError` with an `errno` of the host; programs see the same number.
"""

from pulp_runtime.blobs.bucket import OBJECT_BYTES as OBJECT_BYTES
from pulp_runtime.blobs.bucket import TYPE as TYPE
from pulp_runtime.blobs.bucket import Bucket as Bucket
from pulp_runtime.blobs.bucket import Caller as Caller
from pulp_runtime.blobs.bucket import Damaged as Damaged
from pulp_runtime.blobs.bucket import Info as Info
from pulp_runtime.blobs.bucket import Reader as Reader
from pulp_runtime.blobs.bucket import Version as Version
from pulp_runtime.blobs.bucket import Writer as Writer
from pulp_runtime.blobs.bucket import changed_fields as changed_fields
from pulp_runtime.blobs.bucket import check_name as check_name
