"""Tests of the cloud `replicate`."""
