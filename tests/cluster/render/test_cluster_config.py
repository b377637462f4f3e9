import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.render.cluster_config import ClusterConfig, Gpu, Kubernetes, Onprem, Slurm
from trainables.config import validate
from trainables.errors import ConfigError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
HOSTILE = [
    "",
    " ",
    "-",
    "--help",
    "$(touch proof)",
    "`touch proof`",
    "a b",
    "a;b",
    "a\nb",
    "a'b",
    'a"b',
    "a\n#SBATCH --uid=0",
    "@shared@",
    "a\x00",
]
NAMES = [
    (ClusterConfig, "name"),
    (ClusterConfig, "image"),
    (ClusterConfig, "study"),
    (Gpu, "type"),
    (Kubernetes, "namespace"),
    (Kubernetes, "claim"),
    (Kubernetes, "token_secret"),
    (Kubernetes, "gpu_label"),
    (Kubernetes, "spot_label"),
    (Slurm, "partition"),
    (Slurm, "account"),
    (Slurm, "qos"),
    (Slurm, "time"),
    (Onprem, "ssh_user"),
    (Onprem, "head_ip"),
]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"worker": 3}, "unknown key 'worker'; did you mean 'workers'?"),
        ({"slurm": {"partion": "gpu"}}, "unknown key 'slurm.partion'; did you mean 'partition'?"),
        ({"workers": 0}, "workers: must be greater than or equal to 1 but got 0"),
        ({"workers": 2, "max_workers": 1}, "min_workers <= workers <= max_workers must hold but got 2, 2 and 1"),
        ({"workers": 2, "min_workers": 3}, "min_workers <= workers <= max_workers must hold but got 3, 2 and 2"),
        ({"gpu": {"type": "a100"}}, "gpu: type is 'a100' but count is 0; say how many GPUs a worker has"),
        (
            {"name": "Pears"},
            "name: must be 1 to 40 lowercase letters, digits or hyphens, a letter first and no hyphen last, but got 'Pears'",
        ),
        ({"shared": "data"}, "shared: must be an absolute path below /, without control characters and question marks, but got 'data'"),
        (
            {"settings": "../study.yaml"},
            "settings: must be a path inside the shared storage, without control characters, but got '../study.yaml'",
        ),
        ({"onprem": {"head_ip": "head"}}, "onprem.head_ip: must be an IP address but got 'head'"),
        ({"onprem": {"worker_ips": ["10.0.0.256"]}}, "onprem.worker_ips: must be an IP address but got '10.0.0.256'"),
        (
            {"onprem": {"head_ip": "10.0.0.1", "worker_ips": ["10.0.0.1"]}},
            "onprem: each machine must be named once, the head as head_ip only, but got 10.0.0.1 more than once",
        ),
        ({"slurm": {"time": "a day"}}, "slurm.time: must be minutes, hours:minutes:seconds or days-hours:minutes:seconds but got 'a day'"),
        ({"storage": "studies.db"}, "storage: must be a storage URL such as postgresql://user@host/database but got 'studies.db'"),
    ],
)
def test_a_wrong_value_is_explained_in_one_line(values, message):
    with pytest.raises(ConfigError) as caught:
        validate(ClusterConfig, values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hidden-word@db/injerto",
        "postgresql://me:hidden-word/more@db/injerto",
        "postgresql://me:hidden-word#more@db/injerto",
        "postgresql://me@db/injerto?password=hidden-word",
        "postgresql://me@db/injerto?PassWord=hidden-word",
        "mysql://me@db/injerto?passwd=hidden-word",
    ],
)
def test_a_password_is_rejected_and_not_repeated(url):
    with pytest.raises(ConfigError, match=r"^storage: must hold no password") as caught:
        validate(ClusterConfig, {"storage": url})
    assert "hidden-word" not in str(caught.value)


def test_an_invalid_url_is_not_repeated():
    with pytest.raises(ConfigError, match=r"^storage: must be a storage URL") as caught:
        validate(ClusterConfig, {"storage": "postgresql://[me:hidden-word@db/injerto"})
    assert "hidden-word" not in str(caught.value)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(("kind", "key"), NAMES, ids=[key for _, key in NAMES])
def test_hostile_names_are_rejected(kind, key, value):
    with pytest.raises(ConfigError, match=f"^{key}: must be "):
        validate(kind, {key: value})


@given(TEXT)
def test_accepted_names_need_no_quoting(text):
    for kind, key in NAMES:
        try:
            value = getattr(validate(kind, {key: text, **({"count": 1} if key == "type" else {})}), key)
        except ConfigError:
            continue
        assert re.fullmatch(r"[A-Za-z0-9._:/@=+,-]+", value)
        assert not value.startswith("-")


@given(TEXT)
def test_accepted_paths_are_one_line(text):
    for key, value in (("shared", "/" + text), ("settings", text)):
        try:
            assert getattr(validate(ClusterConfig, {key: value}), key).isprintable()
        except ConfigError:
            continue


def test_every_field_has_a_description():
    for kind in (ClusterConfig, Gpu, Kubernetes, Slurm, Onprem):
        for name, field in kind.model_fields.items():
            assert field.description or name in ("gpu", "kubernetes", "slurm", "onprem"), name
