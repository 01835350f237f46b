"""Recipes: what is trained. Declaration, values, data, bundle and Python environment; knows nothing of pods, stacks and runs."""
