"""The Python API: what the verbs do, as typed calls that print nothing. `import trainyard` offers them by name."""
