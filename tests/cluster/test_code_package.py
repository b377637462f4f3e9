from cluster.code_package import PACKAGES, copy_code, version


def test_the_code_package_holds_only_our_packages_and_is_small(tmp_path):
    copies = copy_code(tmp_path)
    assert [path.rpartition("/")[2] for path in copies] == [*PACKAGES, f"injerto-{version()}.dist-info"]
    assert not list(tmp_path.rglob("__pycache__"))
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 4_000_000
