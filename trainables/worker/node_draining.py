"""Checks whether the trial's node is about to be taken away, such as a spot instance or a node of a cluster that scales down."""


class NodeDraining(Exception):  # noqa: N818 (an event, not an error)
    """The trial's node is being drained. The trial has not failed: it continues on another node, from its last epoch."""


def raise_if_draining() -> None:
    """Raise ``NodeDraining`` if Ray is draining the node of this process; do nothing without Ray.

    Called between epochs: the last one is saved, and the next might not end in time.
    """
    import ray
    from ray._private.state import state  # Ray's own libraries use it; there is no public function

    if ray.is_initialized() and ray.get_runtime_context().get_node_id() in state.get_draining_nodes():
        raise NodeDraining("its node is being drained")
