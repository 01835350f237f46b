"""A GPU is found by every spelling of its name, and a family's word means all of the family."""

from __future__ import annotations

import pytest

from trainyard.clouds import gpus

SPELLINGS = [(gpu, name) for gpu in gpus.GPUS for name in (gpu.name, *gpu.spellings)]


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
        ("A100", ["A100 PCIe", "A100 SXM", "A100 PCIe 40GB", "A100 SXM 40GB"]),
        ("A100 80GB", ["A100 PCIe", "A100 SXM"]),
        ("A100-40GB", ["A100 PCIe 40GB", "A100 SXM 40GB"]),
        ("NVIDIA A100-SXM4-80GB", ["A100 SXM"]),
        ("NVIDIA A100 PCIE-80GB", ["A100 PCIe"]),
        ("A100 PCIe 80 GB", ["A100 PCIe"]),
        ("NVIDIA H100 80GB HBM3", ["H100 SXM"]),
        ("H100_80GB", ["H100 PCIe", "H100 SXM"]),
        ("8x H100 (80 GB SXM5)", ["H100 SXM"]),
        ("gpu_8x_h100_sxm5gdr", ["H100 SXM"]),
        ("gpu_1x_a100_sxm4", ["A100 SXM", "A100 SXM 40GB"]),
        ("gpu-h100", ["H100 PCIe", "H100 SXM", "H100 NVL"]),
        ("Nvidia A40 (Large) GPU", ["A40"]),
        ("2x Nvidia A100 (80GB) GPU", ["A100 PCIe", "A100 SXM"]),
        ("RTX6000Ada", ["RTX 6000 Ada"]),
        ("RTX6000_24GB", ["RTX 6000"]),
        ("A6000", ["RTX A6000"]),
        ("V100_32GB", ["V100 32GB"]),
        ("GH200_480GB", ["GH200"]),
        ("B300_262GB", ["B300"]),
        ("RTX_PRO_6000B_96GB", ["RTX PRO 6000", "RTX PRO 6000 WK"]),
        ("RTX PRO 6000 WS", ["RTX PRO 6000 WK"]),
        ("RTX 4090 48GB", []),
        ("RTX PRO 6000", ["RTX PRO 6000", "RTX PRO 6000 WK"]),
        ("RTX 9090", []),
        ("NVIDIA", []),
        ("", []),
    ],
)
def test_a_word_means_one_type_a_family_or_nothing(text: str, names: list[str]) -> None:
    assert [gpu.name for gpu in gpus.find(text)] == names


@pytest.mark.parametrize(
    ("text", "entries", "hits"),
    [
        ("A100 80GB", ["A100-80GB", "A100", "A100 SXM4/A100 40GB", "A100 SXM4/A100 80GB"], [0, 3]),
        ("A100", ["A100 SXM4/A100 40GB", "A100-80GB", "H100"], [1, 0]),
        ("H100 PCIe", ["H100", "H100 PCIe"], [1]),
        ("H100", ["H100 SXM", "gpu_1x_h100_pcie", "H200"], [1, 0]),
        ("Imaginary 9", ["H100", "imaginary_9"], [1]),
    ],
)
def test_a_clouds_own_id_is_found_in_its_catalog(text: str, entries: list[str], hits: list[int]) -> None:
    """An entry that may be something else than what was asked for is not taken; 80 GB come before 40."""
    names = [tuple(entry.split("/")) for entry in entries]

    assert gpus.match(text, names) == hits


def test_a_card_that_reports_a_little_less_than_its_maker_states_is_large_enough() -> None:
    assert gpus.has_memory(31.8, 32) and not gpus.has_memory(24, 32) and gpus.has_memory(None, 32) and gpus.has_memory(24, None)


def test_a_wrong_name_gets_near_ones() -> None:
    assert "RTX 5090" in gpus.suggestions("RTX 5900")
