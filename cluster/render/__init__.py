"""Configuration files of clusters, as text: KubeRay, Slurm, machines reached by SSH."""
