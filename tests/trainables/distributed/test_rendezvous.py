from tests.trainables.replicating import listening_addresses


def test_processes_with_a_loopback_address_listen_on_loopback_only(pair):
    hosts = {host for addresses in pair.run(listening_addresses) for host in addresses}
    assert hosts
    assert all(host.startswith("127.") for host in hosts)
