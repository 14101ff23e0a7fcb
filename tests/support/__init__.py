"""What the tests share: raw clients of both channels, and daemons that end with their test."""
