"""Experiment trackers that also record a search: TensorBoard, MLflow, Weights & Biases."""
