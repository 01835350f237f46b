"""Exit codes are a promise."""

import pytest

from trainyard import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [("UserError", 2), ("RefusedError", 3), ("CloudError", 4), ("Unreachable", 5), ("StillThere", 6), ("Detached", 11),
     ("StoreError", 7), ("Busy", 8), ("EngineError", 9)],
)  # fmt: skip
def test_each_kind_of_error_has_its_exit_code(kind, code):
    assert getattr(errors, kind).exit_code == code


def test_what_could_not_be_decided_is_no_refusal():
    assert not issubclass(errors.CloudUnknown, (errors.CloudRefused, errors.NoCapacity))
