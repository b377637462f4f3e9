"""What runs in a Ray worker: the trainable, its replicas, a simulated trial, a cost probe."""
