"""The test side: the collector and its sync façade."""
