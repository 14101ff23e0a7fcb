"""Recordings: what a test's calls were answered with, kept beside the test and replayed."""
