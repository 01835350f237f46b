"""Runs as files of a git repository: ``runs/*.yaml`` is what shall run, one run per commit and file."""
