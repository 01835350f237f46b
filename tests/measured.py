"""Which tests count where branches are measured: those that reach them in their own process."""

MEASURED = (
    "tests/runs",
    "tests/stacks",
    "tests/recipes/test_elsewhere.py",
    "tests/storage/test_adapters.py",
    "tests/storage/test_bucketcheck.py",
    "tests/storage/test_bucketdata.py",
    "tests/storage/test_checkpoints.py",
    "tests/storage/test_companion.py",
    "tests/storage/test_cycle.py",
    "tests/storage/test_data_roads.py",
    "tests/storage/test_dataset.py",
    "tests/storage/test_deletion.py",
    "tests/storage/test_delivering.py",
    "tests/storage/test_hub.py",
    "tests/storage/test_mounted.py",
    "tests/storage/test_ollama.py",
    "tests/storage/test_push.py",
    "tests/storage/test_pushing.py",
    "tests/storage/test_result_verbs.py",
    "tests/storage/test_roads.py",
    "tests/storage/test_sweeper.py",
)
"""Folders and files, from the top of the checkout."""
