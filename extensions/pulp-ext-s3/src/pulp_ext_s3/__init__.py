"""`storage.s3`: objects in one bucket of an S3 store, for Pulp cells; and the backend `s3` of `cloud.blob`.

settings    what the operator says: endpoint, bucket, credentials
messages    what cells send and get
transport   sends signed requests, with a deadline and a bound
bucket      the bucket: requests made and signed by boto3, answers and errors as codes
store       the host functions
blob        the backend `s3` of `cloud.blob`: a bucket as a folder
blob_digest, blob_stream    its digests; reading and writing part by part
narrow      three capabilities whose messages are not published: refused, with a sentence
"""

from pulp_ext_s3.store import NAME as NAME
from pulp_ext_s3.store import capability as capability
