"""What runs in a Ray worker: the trainable and its replicas, the simulated trial, the cost probe, the final evaluation."""
