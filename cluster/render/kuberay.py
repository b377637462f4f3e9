"""Renders a cluster as KubeRay resources: a RayCluster, and two RayJobs that start and resume the search on it.

The fields are those of KubeRay's ray.io/v1 types, 1.5.1 and newer; `tests/cluster/render/kuberay_schema.json` holds those used here.
"""

from typing import Any

from cluster.environment import NO_URL, REPORT_URL
from cluster.render.cluster_config import ClusterConfig, require
from trainables.errors import ConfigError

Document = dict[str, Any]

RUNS_AS = 1000
"""Id of the image's user (`cluster/Dockerfile`), and of the group of the mounted volumes."""
SPOT_GRACE_SECONDS, GRACE_SECONDS = 20, 60
"""Seconds that a pod has to end; a spot node is taken away after about 25 s."""
IDLE_SECONDS = 300
CACHE, SECRETS, PGPASS = "/run/injerto/cache", "/run/injerto/secrets", "/run/injerto/pgpass"
SHELL_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-+@=")

CLUSTER_HEADER = """\
A Ray cluster for KubeRay 1.5.1 or newer. It runs until it is deleted: the next search finds its nodes started and its images
decoded. The head runs the search and no trials. Ray's token is in a secret: KubeRay creates one with the cluster's name,
unless kubernetes.token_secret names another.
  kubectl apply -f raycluster.yaml
  kubectl delete -f raycluster.yaml
"""
SCALING_HEADER = """\
Workers that are idle for {idle} s are removed, down to {least}. A search uses all present workers and those that join later.
With resources.may_grow=true in its settings it requests more.
"""
SEARCH_HEADER = """\
Searches on the cluster of raycluster.yaml, and leaves that cluster running; its owner decides when to delete it.
Results are under injerto-output in the shared storage. If the head is lost, rayjob-resume.yaml continues the search.
  kubectl apply -f rayjob-search.yaml
  kubectl logs -n {namespace} -f -l job-name={name}-search
"""
RESUME_HEADER = """\
Continues the search of rayjob-search.yaml from its last epochs, after the head was lost or the search was paused.
  kubectl delete --ignore-not-found -f rayjob-resume.yaml && kubectl apply -f rayjob-resume.yaml
"""


def render(config: ClusterConfig) -> dict[str, tuple[str, Document]]:
    """Return file name → (comment for its top, one Kubernetes resource). Raises ``ConfigError`` as `cluster` and `job` do."""
    least, most = config.bounds
    header = CLUSTER_HEADER + (SCALING_HEADER.format(idle=IDLE_SECONDS, least=least) if least < most else "")
    search = ["injerto", "search", f"{config.shared}/{config.settings}", "--name", config.study_name]
    resume = ["injerto", "resume", config.study_name, "--set", "resources.address=auto"]
    return {
        "raycluster.yaml": (header, cluster(config)),
        "rayjob-search.yaml": (
            SEARCH_HEADER.format(name=config.name, namespace=config.kubernetes.namespace),
            job(config, "search", [*search, "--address", "auto", "--output", f"{config.shared}/injerto-output"]),
        ),
        "rayjob-resume.yaml": (RESUME_HEADER, job(config, "resume", resume)),
    }


def cluster(config: ClusterConfig) -> Document:
    """Return the RayCluster resource. Raises ``ConfigError`` if `image` or `kubernetes.claim` is not set."""
    least, most = config.bounds
    scaling = {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"idleTimeoutSeconds": IDLE_SECONDS, "upscalingMode": "Default"},
    }
    token = {"secretName": config.kubernetes.token_secret} if config.kubernetes.token_secret else {}
    spec = {
        "rayVersion": config.kubernetes.ray_version,
        "authOptions": {"mode": "token", **token},
        **(scaling if least < most else {}),
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0"},  # no CPUs for trials: they run on workers
            "template": _head(config),
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": config.workers,
                "minReplicas": least,
                "maxReplicas": most,
                "rayStartParams": {},
                "template": _worker(config),
            }
        ],
    }
    return _resource("RayCluster", config, config.name, spec)


def job(config: ClusterConfig, suffix: str, command: list[str]) -> Document:
    """Return a RayJob resource, named ``<cluster>-<suffix>``, that runs a command, given as words, on the cluster's head.

    Raises ``ConfigError`` for a word with a character that a shell could change, such as a space.
    """
    for word in command:
        if not SHELL_SAFE.issuperset(word):
            raise ConfigError(
                f"{word!r} cannot be part of a RayJob's command, which passes through two shells; "
                "use letters, digits and ._/-+@= in shared and settings"
            )
    spec = {
        "clusterSelector": {"ray.io/cluster": config.name},
        "entrypoint": " ".join(command),
        "submissionMode": "K8sJobMode",
        "backoffLimit": 0,  # a second try would find the study's name taken; rayjob-resume.yaml continues instead
    }
    return _resource("RayJob", config, f"{config.name}-{suffix}", spec)


def _resource(kind: str, config: ClusterConfig, name: str, spec: Document) -> Document:
    metadata = {"name": name, "namespace": config.kubernetes.namespace, "labels": {"app.kubernetes.io/part-of": "injerto"}}
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _head(config: ClusterConfig) -> Document:
    secret = config.kubernetes.pgpass_secret
    pod = _pod(config, "ray-head", {"cpu": "2", "memory": f"{config.kubernetes.head_memory}Gi"}, seconds=GRACE_SECONDS)
    container = pod["spec"]["containers"][0]
    container["ports"] = [{"name": "gcs-server", "containerPort": 6379}, {"name": "dashboard", "containerPort": 8265}]
    container["env"].append({"name": "INJERTO_STORAGE", "value": config.storage_url})
    if secret:
        _add_pgpass(config, pod["spec"], secret)
    return pod


def _worker(config: ClusterConfig) -> Document:
    resources: Document = {"cpu": str(config.cpus), "memory": f"{config.memory}Gi"}
    if config.gpu.count:
        resources["nvidia.com/gpu"] = str(config.gpu.count)
    pod = _pod(config, "ray-worker", resources, seconds=SPOT_GRACE_SECONDS if config.spot else GRACE_SECONDS)
    # Tells the head at once that the node ends, before heartbeats are missed; the trials' last epochs are on disk.
    pod["spec"]["containers"][0]["lifecycle"] = {"preStop": {"exec": {"command": ["ray", "stop", "--grace-period", "10"]}}}
    pod["spec"] |= _scheduling(config)
    return pod


def _pod(config: ClusterConfig, name: str, resources: Document, seconds: int) -> Document:
    image = require("KubeRay", config.image, "image", "build one with cluster/Dockerfile and push it where the cluster can pull it")
    claim = require("KubeRay", config.kubernetes.claim, "kubernetes.claim", "the claim that is mounted at `shared` on every pod")
    memory = int(str(resources["memory"]).removesuffix("Gi"))
    objects = config.kubernetes.objects_secret
    container = {
        "name": name,
        "image": image,
        "resources": {"requests": resources, "limits": dict(resources)},
        "env": [
            {"name": "INJERTO_CACHE", "value": CACHE},
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
            {"name": REPORT_URL, "value": NO_URL},
        ],
        **({"envFrom": [{"secretRef": {"name": objects}}]} if objects else {}),
        "volumeMounts": [
            {"name": "shared", "mountPath": config.shared},
            {"name": "cache", "mountPath": CACHE},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
        "securityContext": _unprivileged(),
    }
    spec = {
        "terminationGracePeriodSeconds": seconds,
        "securityContext": {"runAsNonRoot": True, "runAsUser": RUNS_AS, "runAsGroup": RUNS_AS, "fsGroup": RUNS_AS},
        "containers": [container],
        "volumes": [
            {"name": "shared", "persistentVolumeClaim": {"claimName": claim}},
            {"name": "cache", "emptyDir": {}},
            # for Ray's object store; the default is 64 MB. Kubernetes counts it as memory of the container
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{max(1, memory * 3 // 10)}Gi"}},
        ],
    }
    return {"spec": spec}


def _unprivileged() -> Document:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _scheduling(config: ClusterConfig) -> Document:
    """Return ``nodeSelector`` and ``tolerations`` of the workers' pods, for GPUs and spot nodes; each is left out if empty."""
    selector: dict[str, str] = {}
    tolerations: list[dict[str, str]] = []
    if config.gpu.type:
        selector[config.kubernetes.gpu_label] = config.gpu.type
    if config.gpu.count:
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if config.spot:
        key, _, value = config.kubernetes.spot_label.partition("=")
        selector[key] = value
        tolerations.append({"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"})
    return {key: value for key, value in (("nodeSelector", selector), ("tolerations", tolerations)) if value}


def _add_pgpass(config: ClusterConfig, spec: Document, secret: str) -> None:
    """Add to `spec`, the head's pod, an init container that copies the password file from the secret named `secret`, and ``PGPASSFILE``.

    PostgreSQL's client ignores the mounted secret itself, because others can read it.
    """
    container = spec["containers"][0]
    copy_command = ["install", "-m", "0600", f"{SECRETS}/pgpass", f"{PGPASS}/pgpass"]
    target = {"name": "pgpass", "mountPath": PGPASS}
    spec["initContainers"] = [
        {
            "name": "pgpass",
            "image": config.image,
            "command": copy_command,
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
            "volumeMounts": [{"name": "pgpass-secret", "mountPath": SECRETS, "readOnly": True}, target],
            "securityContext": _unprivileged(),
        }
    ]
    container["env"].append({"name": "PGPASSFILE", "value": f"{PGPASS}/pgpass"})
    container["volumeMounts"].append(target | {"readOnly": True})
    spec["volumes"] += [
        {"name": "pgpass-secret", "secret": {"secretName": secret, "defaultMode": 0o440}},
        {"name": "pgpass", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
