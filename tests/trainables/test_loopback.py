import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.loopback import is_loopback


@pytest.mark.parametrize("host", ["localhost", "Localhost.", "a.localhost", "127.0.0.3", "::1", "0.0.0.0", "::ffff:127.0.0.1"])
def test_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "example.org", "localhost.example.org", "10.0.0.1", "128.0.0.1", "::2", "169.254.169.254", "127.0.0"])
def test_other_machines(host):
    assert not is_loopback(host)


@given(st.ip_addresses(v=4))
def test_exactly_the_addresses_of_the_loopback_network_and_of_no_host(address):
    assert is_loopback(str(address)) == (str(address).startswith("127.") or str(address) == "0.0.0.0")
