"""Cluster files as text: KubeRay, Slurm, machines reached by SSH."""
