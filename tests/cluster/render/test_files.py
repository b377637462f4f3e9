import json
import os
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import cluster
from cluster.render.cluster_config import ClusterConfig
from cluster.render.files import KINDS, read, render, write
from trainables.config import validate
from trainables.errors import ConfigError, ResourceError

EXAMPLES = sorted((Path(cluster.__file__).parent / "examples").glob("*.yaml"))
SCHEMA = json.loads(Path(__file__).with_name("kuberay_schema.json").read_text(encoding="utf-8"))
CRDS = os.environ.get("INJERTO_KUBERAY_CRDS")
PATHS = st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"], exclude_characters="?"), min_size=1, max_size=20).map(
    "/a/{}".format
)

KUBERNETES = {"image": "team/injerto:1", "kubernetes": {"claim": "data"}}
ONPREM = {"onprem": {"head_ip": "10.0.0.1", "ssh_user": "me"}}
KUBERAY_CONFIGS = [
    KUBERNETES,
    KUBERNETES | {"workers": 3, "gpu": {"type": "nvidia-l4", "count": 2}},
    KUBERNETES | {"min_workers": 0, "max_workers": 9, "spot": True, "gpu": {"count": 1}},
    KUBERNETES
    | {
        "name": "a" * 40,
        "study": "Pears_1.0",
        "storage": "postgresql://me@db/injerto",
        "kubernetes": {"claim": "d", "pgpass_secret": "pg", "objects_secret": "s3", "token_secret": "token", "namespace": "n"},
    },
]
ONPREM_CONFIGS = [ONPREM, {"workers": 2, "environment": "/opt/an env", "onprem": ONPREM["onprem"] | {"worker_ips": ["10.0.0.2"]}}]


def documents(kind, values):
    return {name: yaml.safe_load(text) for name, text in render(kind, validate(ClusterConfig, values)).items()}


def head_and_worker(**values):
    spec = documents("kuberay", KUBERNETES | values)["raycluster.yaml"]["spec"]
    return spec["headGroupSpec"]["template"]["spec"], spec["workerGroupSpecs"][0]["template"]["spec"]


@pytest.mark.parametrize("values", KUBERAY_CONFIGS)
def test_rendered_files_match_kuberays_schema(values):
    found = documents("kuberay", values)
    assert [document["kind"] for document in found.values()] == ["RayCluster", "RayJob", "RayJob"]
    for document in found.values():
        jsonschema.validate(document, SCHEMA)
    assert "&id" not in "".join(render("kuberay", validate(ClusterConfig, values)).values())


def test_the_schema_rejects_unknown_fields():
    document = documents("kuberay", KUBERNETES)["raycluster.yaml"]
    for spoil in ({"rayVersoin": "2.60.0"}, {"authOptions": {"mode": "none"}}, {"workerGroupSpecs": [{}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document | {"spec": document["spec"] | spoil}, SCHEMA)


@pytest.mark.skipif(
    CRDS is None, reason="name a folder with KubeRay's ray.io_rayclusters.yaml and ray.io_rayjobs.yaml in INJERTO_KUBERAY_CRDS"
)
@pytest.mark.parametrize("values", KUBERAY_CONFIGS)
def test_rendered_files_match_kuberays_own_definitions(values):
    """Run with the files of ray-operator/config/crd/bases of a KubeRay release, 1.5.1 or newer, 1.6 for token_secret."""
    for document in documents("kuberay", values).values():
        name = f"ray.io_{document['kind'].lower()}s.yaml"
        versions = yaml.safe_load((Path(CRDS) / name).read_text(encoding="utf-8"))["spec"]["versions"]
        schema = next(version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1")
        jsonschema.Draft7Validator(strict(schema)).validate(document)


def strict(schema):
    """Return a schema that also rejects unknown fields, which the API server would drop. The server itself checks `metadata`."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict_schema = {key: strict(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type", "object") == "object":
        strict_schema.setdefault("additionalProperties", False)
    return strict_schema


def test_trials_run_on_workers_behind_a_token():
    spec = documents("kuberay", KUBERNETES)["raycluster.yaml"]["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert "enableInTreeAutoscaling" not in spec


def test_different_bounds_turn_autoscaling_on():
    spec = documents("kuberay", KUBERNETES | {"workers": 2, "min_workers": 0, "max_workers": 5})["raycluster.yaml"]["spec"]
    group = spec["workerGroupSpecs"][0]
    assert spec["enableInTreeAutoscaling"]
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (0, 2, 5)


def test_gpus_and_spot_select_the_nodes():
    head, worker = head_and_worker(gpu={"type": "nvidia-tesla-t4", "count": 2}, spot=True)
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert worker["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4", "cloud.google.com/gke-spot": "true"}
    assert {toleration["key"] for toleration in worker["tolerations"]} == {"nvidia.com/gpu", "cloud.google.com/gke-spot"}
    assert worker["terminationGracePeriodSeconds"] <= 25
    assert not {"nodeSelector", "tolerations"} & set(head)
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]


def test_every_mount_has_a_volume_and_every_pod_the_shared_one():
    for pod in head_and_worker(kubernetes={"claim": "data", "pgpass_secret": "pg"}):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        containers = pod["containers"] + pod.get("initContainers", [])
        assert {mount["name"] for container in containers for mount in container["volumeMounts"]} == set(volumes)
        assert volumes["shared"] == {"name": "shared", "persistentVolumeClaim": {"claimName": "data"}}
        mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert {"/shared", "/dev/shm"} <= mounts


def test_secrets_are_references_and_only_the_head_gets_the_database_password():
    head, worker = head_and_worker(kubernetes={"claim": "data", "pgpass_secret": "pg", "objects_secret": "s3"})
    assert head["containers"][0]["envFrom"] == worker["containers"][0]["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert {"name": "PGPASSFILE", "value": "/run/injerto/pgpass/pgpass"} in head["containers"][0]["env"]
    assert head["initContainers"][0]["command"][:3] == ["install", "-m", "0600"]
    assert "pgpass" not in json.dumps(worker)


def test_one_job_starts_the_search_and_another_resumes_it():
    found = documents("kuberay", KUBERNETES | {"name": "pears", "shared": "/data", "settings": "a/b.yaml", "study": "Pears"})
    search, resume = found["rayjob-search.yaml"]["spec"], found["rayjob-resume.yaml"]["spec"]
    assert search["clusterSelector"] == resume["clusterSelector"] == {"ray.io/cluster": "pears"}
    assert search["entrypoint"] == "injerto search /data/a/b.yaml --name Pears --address auto --output /data/injerto-output"
    assert resume["entrypoint"] == "injerto resume Pears --set resources.address=auto"


@pytest.mark.parametrize("values", ONPREM_CONFIGS)
def test_ray_up_accepts_the_rendered_file(values):
    from ray.autoscaler._private.util import prepare_config, validate_config

    (config,) = documents("onprem", values).values()
    prepared = prepare_config(config)
    validate_config(prepared)
    workers = len(values["onprem"].get("worker_ips", ()))
    assert prepared["available_node_types"]["local.cluster.node"]["max_workers"] == workers
    assert all("RAY_AUTH_MODE=token" in command for command in prepared["head_start_ray_commands"] + prepared["worker_start_ray_commands"])


@given(PATHS)
def test_paths_survive_the_yaml_file(path):
    (config,) = documents("onprem", {"shared": path, "onprem": ONPREM["onprem"] | {"token_file": path, "ssh_private_key": path}}).values()
    assert config["auth"]["ssh_private_key"] == config["file_mounts"]["~/.ray/auth_token"] == path


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("kubray", {}, "unknown kind of cluster 'kubray'; did you mean 'kuberay'?"),
        (
            "kuberay",
            {"kubernetes": {"claim": "d"}},
            "image must be set for KubeRay: build one with cluster/Dockerfile and push",
        ),
        (
            "kuberay",
            {"image": "a"},
            "kubernetes.claim must be set for KubeRay: the claim that is mounted at `shared` on every pod",
        ),
        (
            "kuberay",
            KUBERNETES | {"shared": "/a b"},
            "'/a b/study.yaml' cannot be part of a RayJob's command, which passes through two shells",
        ),
        ("kuberay", KUBERNETES | {"settings": "$(id).yaml"}, "'/shared/$(id).yaml' cannot be part of a RayJob's command"),
        ("slurm", {"spot": True}, "spot has no effect on Slurm: name a preemptible partition in slurm.partition"),
        ("slurm", {"max_workers": 9}, "min_workers or max_workers has no effect on Slurm: a job keeps its nodes; set workers alone"),
        ("slurm", {"image": "a"}, "image has no effect on Slurm: trials run in `environment` there"),
        ("onprem", {}, "onprem.head_ip must be set for machines reached by SSH: the machine that runs the search"),
        (
            "onprem",
            {"onprem": {"head_ip": "::1"}},
            "onprem.ssh_user must be set for machines reached by SSH: the user who logs in there",
        ),
        ("onprem", ONPREM | {"workers": 4}, "workers: 4 has no effect on machines reached by SSH: onprem names 1, the head among them"),
    ],
)
def test_missing_settings_and_those_without_effect_are_rejected(kind, values, message):
    with pytest.raises(ConfigError) as caught:
        render(kind, validate(ClusterConfig, values))
    assert str(caught.value).startswith(message)


def test_every_kind_has_an_example_that_renders():
    assert [path.stem for path in EXAMPLES] == sorted(KINDS)
    for path in EXAMPLES:
        config = read(path)
        assert all(text.endswith("\n") for text in render(path.stem, config).values())
        if path.stem == "kuberay":
            for text in render("kuberay", config).values():
                jsonschema.validate(yaml.safe_load(text), SCHEMA)


def test_write_writes_all_files_or_none(tmp_path):
    config = validate(ClusterConfig, KUBERNETES)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rayjob-search.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"rayjob-search.yaml would be overwritten; name another folder, or overwrite with --force$"):
        write("kuberay", config, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rayjob-search.yaml"]
    paths = write("kuberay", config, tmp_path / "out", force=True)
    assert {path.name: path.read_text() for path in paths} == render("kuberay", config)
    with pytest.raises(ResourceError, match="cannot write into"):
        write("kuberay", config, paths[0])


def test_an_invalid_file_is_named(tmp_path):
    (tmp_path / "cluster.yaml").write_text("workers: many\n")
    with pytest.raises(ConfigError, match=r"^in .*cluster.yaml:\nworkers: must be a whole number"):
        read(tmp_path / "cluster.yaml")
