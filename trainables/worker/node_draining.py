"""Whether the node under a trial is about to go: a spot machine called back, a cluster that shrinks."""


class NodeDraining(Exception):  # noqa: N818 (what happens, not what is wrong)
    """The trial goes on elsewhere, from its last epoch; no failure of its own."""


def raise_if_draining() -> None:
    """Raise ``NodeDraining`` if this process's node is being drained; its last epoch is on disk, and the next might not be in time."""
    import ray
    from ray._private.state import state  # what Ray's own libraries ask; there is no public way

    if ray.is_initialized() and ray.get_runtime_context().get_node_id() in state.get_draining_nodes():
        raise NodeDraining("its node is being drained")
