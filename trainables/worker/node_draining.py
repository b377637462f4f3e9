"""Whether the node of a trial is about to be taken away, such as a spot instance or a node of a cluster that scales down."""


class NodeDraining(Exception):  # noqa: N818 (an event, not an error)
    """The trial's node is being drained. The trial has not failed: it continues on another node, from its last epoch."""


def raise_if_draining() -> None:
    """Raise ``NodeDraining`` if this process's node is being drained: the last epoch is saved, and the next might not end in time."""
    import ray
    from ray._private.state import state  # Ray's own libraries use it; there is no public function

    if ray.is_initialized() and ray.get_runtime_context().get_node_id() in state.get_draining_nodes():
        raise NodeDraining("its node is being drained")
