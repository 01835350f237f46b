"""SimpleTuner's own files for one run: config.json and multidatabackend.json, from the recipe's variables or from a person's folder.

Standard library only: what is written is tested against SimpleTuner's own reading without a GPU.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

TINY = "tiny-sdxl"
BACKENDS = "multidatabackend.json"
_SAME = (
    *("model_family", "model_flavour", "model_type", "lora_rank", "lora_alpha", "resolution", "resolution_type", "max_train_steps"),
    *("learning_rate", "lr_scheduler", "lr_warmup_steps", "train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing"),
    *("mixed_precision", "base_model_precision", "optimizer", "seed", "use_ema", "caption_dropout_probability", "validation_prompt"),
    *("validation_negative_prompt", "validation_guidance", "validation_num_inference_steps", "validation_resolution", "validation_steps"),
    *("checkpoint_step_interval", "checkpoints_total_limit"),
)
"""Variables that SimpleTuner calls the same."""
IMAGES = "image"
_OWN = ("output_dir", "data_backend_config", "resume_from_checkpoint", "report_to")
"""What only the run itself can say, whatever a person's config says."""


@dataclass(frozen=True)
class RunPlaces:
    """Where a run has what SimpleTuner is told about."""

    images: str
    output: str
    cache: str
    config: str
    base: str | None
    """The tiny base, where it was made."""


class WrongConfig(Exception):
    """A person's config folder cannot be used: said in one line. Exit code 2."""


def write(values: dict[str, Any], places: RunPlaces) -> None:
    """Write both files for what the variables say."""
    config = {name: values[name] for name in _SAME if values.get(name) is not None}
    base, vae = places.base or values["base_model"], places.base or values.get("vae")
    config |= {"pretrained_model_name_or_path": base} if base else {}
    config |= {"pretrained_vae_model_name_or_path": vae} if vae else {}
    config |= {"vae_dtype": "fp32"} if values["mixed_precision"] == "no" else {}
    config |= {
        "lora_type": "standard", "num_train_epochs": 0, "validation_seed": values["seed"], "validation_prompt_library": False,
        "disable_benchmark": True, "disable_bucket_pruning": True, "push_to_hub": False, "hub_model_id": "model",
        "tracker_project_name": "trainyard", "tracker_run_name": "run", "cache_dir": places.cache,
    }  # fmt: skip
    config |= _further(values.get("options") or [])
    _write(places, _forced(config, places), [_images(values, places), _texts(places)])


def _further(options: list[str]) -> dict[str, Any]:
    further: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.removeprefix("--").partition("=")
        if not equals or name in _OWN:
            raise WrongConfig(f"options: '{option}' " + ("is set by the run itself" if equals else "is no name=value"))
        try:
            further[name] = json.loads(text)
        except ValueError:
            further[name] = text
    return further


def adopt(folder: str, places: RunPlaces) -> list[str]:
    """Write both files as a person's folder has them, but for what only the run can say; return what was changed, in words."""
    config = {key.removeprefix("--"): value for key, value in _read(folder, "config.json", dict).items()}
    name = os.path.basename(str(config.get("data_backend_config") or BACKENDS))
    backends = _read(folder, name, list)
    said = [f"{key}: {config[key]} is what the run says" for key in _OWN if key in config]
    for backend in backends:
        kind = backend.get("dataset_type", IMAGES)
        if backend.get("type") == "local" and "instance_data_dir" in backend:
            asked = str(backend["instance_data_dir"]).rstrip("/")
            below = os.path.join(places.images, os.path.basename(asked))
            backend["instance_data_dir"] = below if os.path.isdir(below) else places.images
            said.append(f"{backend.get('id')}: images of {asked} are those of the data")
        for key in ("cache_dir", "cache_dir_vae", "cache_dir_text"):
            if key in backend:
                backend[key] = os.path.join(places.cache, str(backend.get("id", kind)), key)
    _write(places, _forced(config, places), backends)
    return said


def _forced(config: dict[str, Any], places: RunPlaces) -> dict[str, Any]:
    return config | {
        "output_dir": places.output, "data_backend_config": os.path.join(places.config, BACKENDS),
        "resume_from_checkpoint": "latest", "report_to": "simpletuner",
    }  # fmt: skip


def _images(values: dict[str, Any], places: RunPlaces) -> dict[str, Any]:
    cropped = {"crop_style": values["crop_style"], "crop_aspect": values["crop_aspect"]} if values["crop"] else {}
    told = {"instance_prompt": values["instance_prompt"]} if values.get("instance_prompt") else {}
    # The captions of a metadata.jsonl and of file names lie beside the images by now.
    strategy = "instanceprompt" if values["caption_strategy"] == "instanceprompt" else "textfile"
    return {
        "id": "images", "type": "local", "dataset_type": IMAGES, "instance_data_dir": places.images, "caption_strategy": strategy,
        "metadata_backend": "discovery", "resolution": values["resolution"], "resolution_type": values["resolution_type"],
        "minimum_image_size": values["minimum_image_size"], "crop": values["crop"], "repeats": values["repeats"],
        "cache_dir_vae": os.path.join(places.cache, "vae"), **cropped, **told,
    }  # fmt: skip


def _texts(places: RunPlaces) -> dict[str, Any]:
    return {"id": "texts", "dataset_type": "text_embeds", "default": True, "type": "local", "cache_dir": os.path.join(places.cache, "text")}


def _read(folder: str, name: str, kind: type) -> Any:
    path = os.path.join(folder, name)
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise WrongConfig(f"{name} of the config folder cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise WrongConfig(f"{name} of the config folder is no JSON: {error}") from None
    if not isinstance(content, kind) or (kind is list and not all(isinstance(item, dict) for item in content)):
        raise WrongConfig(f"{name} of the config folder must be {'an object' if kind is dict else 'a list of objects'}")
    return content


def _write(places: RunPlaces, config: dict[str, Any], backends: list[dict[str, Any]]) -> None:
    os.makedirs(places.config, exist_ok=True)
    for name, content in (("config.json", config), (BACKENDS, backends)):
        with open(os.path.join(places.config, name), "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
