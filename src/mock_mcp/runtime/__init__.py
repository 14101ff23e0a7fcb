"""Where things are: project root and id, cache directory, locks, launching the daemon."""

import logging

# A library is silent until its user asks: without a handler, warnings would reach stderr.
logging.getLogger("mock_mcp").addHandler(logging.NullHandler())
