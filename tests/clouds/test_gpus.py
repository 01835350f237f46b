"""A GPU is found by every spelling of its name, and a family's word means all of the family."""

from __future__ import annotations

import pytest

from trainyard.clouds import gpus

SPELLINGS = [(gpu, name) for gpu in gpus.GPUS for name in (gpu.name, gpu.runpod) if name]


@pytest.mark.parametrize(("gpu", "name"), SPELLINGS, ids=[f"{gpu.name}: {name}" for gpu, name in SPELLINGS])
def test_every_clouds_spelling_is_understood(gpu: gpus.GpuType, name: str) -> None:
    assert gpu in gpus.find(name)
    assert gpu in gpus.find(name.lower())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("5090", ["RTX 5090"]),
        ("rtx_4090", ["RTX 4090"]),
        ("H100", ["H100 PCIe", "H100 SXM", "H100 NVL"]),
        ("NVIDIA H100 PCIe", ["H100 PCIe"]),
        ("H200", ["H200 SXM"]),
        ("A100 80GB", ["A100 PCIe", "A100 SXM"]),
        ("RTX PRO 6000", ["RTX PRO 6000", "RTX PRO 6000 WK"]),
        ("RTX 9090", []),
        ("NVIDIA", []),
        ("", []),
    ],
)
def test_a_word_means_one_type_a_family_or_nothing(text: str, names: list[str]) -> None:
    assert [gpu.name for gpu in gpus.find(text)] == names


def test_a_card_that_reports_a_little_less_than_its_maker_states_is_large_enough() -> None:
    assert gpus.has_memory(31.8, 32) and not gpus.has_memory(24, 32) and gpus.has_memory(None, 32) and gpus.has_memory(24, None)


def test_a_wrong_name_gets_near_ones() -> None:
    assert "RTX 5090" in gpus.suggestions("RTX 5900")
