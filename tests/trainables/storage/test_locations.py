"""Locations as text: joining, splitting, and which URLs are accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.errors import StorageError
from trainables.storage.locations import check_url, is_url, join, split_location
from trainables.storage.secrets import redact

NAMES = st.text("abcxyz0189._- ", min_size=1, max_size=9).filter(lambda name: name.strip(".") != "")
KEYS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
LOCATIONS = ("/data/studies", "s3://bucket", "s3://bucket/a/b", "s3://bucket/a?endpoint_override=http://127.0.0.1:9000/&region=us-east-1")


@given(st.sampled_from(LOCATIONS), KEYS)
def test_split_is_the_reverse_of_join(location, key):
    whole = join(location, key)
    around, last = split_location(whole)
    assert (join(around, last), last) == (whole, key.split("/")[-1])
    assert is_url(whole) == is_url(location)
    assert join(join(location, key), "last.pt") == join(location, f"{key}/last.pt")


@given(user=st.text("abcXYZ01+", min_size=1), password=st.text("QRSTuvw789/+%=", min_size=6))
def test_urls_with_secrets_are_redacted_and_rejected(user, password):
    for url in (f"s3://{user}:{password}@bucket/a?region=x", f"abfs://:{password}@host/a", f"s3://bucket/a?x=1&secret_key={password}&y=2"):
        assert password not in redact(url)
        with pytest.raises(StorageError, match=r"holds a password or a key.*AWS_ACCESS_KEY_ID") as caught:
            check_url(url)
        assert password not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint", ["http%3A%2F%2Fme%3Ahidden@host", "http%3A%2F%2Fme%3Ahidden%40host%3A9000", "http%3a%2f%2fme:hidden%40host"]
)
def test_a_password_in_an_encoded_url_is_rejected(endpoint):
    with pytest.raises(StorageError, match="holds a password or a key") as caught:
        check_url(f"s3://bucket/a?endpoint_override={endpoint}")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", LOCATIONS[1:])
def test_urls_without_secrets_are_accepted_and_stay_as_they_are(url):
    assert check_url(url) == redact(url) == url


@pytest.mark.parametrize("url", ["s3://", "s3:///a", "s3:/bucket/a", "http://host/a", "file:///data", "hdfs://host/a", "foo://a/b"])
def test_check_url_rejects_other_urls(url):
    assert is_url(url)
    with pytest.raises(StorageError, match=r"cannot be a root; name a folder, or a bucket such as s3://bucket/prefix"):
        check_url(url)
