"""WatcherGroup processes that train one network together."""
