"""Where things are: project root and id, cache directory, locks, launching the daemon."""
