"""Several processes that train one network together: what they exchange, how they connect, batch norm over all of them."""
