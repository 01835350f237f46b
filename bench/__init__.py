"""Benchmarks: ratios against peers in one run, and the seconds a user waits. Never part of the tests."""
