"""What the errors of disks and servers mean for the user."""

from trainables.errors import ResourceError
from trainables.storage.storage_errors import storage_error


def test_a_full_bucket_is_a_resource_error():
    error = OSError("AWS Error UNKNOWN (HTTP status 507) during PutObject operation: XMinioStorageFull: no free drive space")
    assert isinstance(storage_error(error, "write", "s3://bucket/a"), ResourceError)
