"""The pure core: the broker's state machine and the client's grouping policy."""
