"""Renders `cluster.yaml` as the files that start a cluster: KubeRay, Slurm, machines reached by SSH."""
