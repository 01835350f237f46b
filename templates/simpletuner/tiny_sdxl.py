"""A tiny base of the form of Stable Diffusion XL, of random weights: for a look at the whole road on a CPU, never for pictures."""

from __future__ import annotations

import json
import os

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def make(folder: str, seed: int) -> None:
    """Write the base into a folder, the same for the same seed."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), transformer_layers_per_block=(1, 1), cross_attention_dim=64, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 32,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=[16, 32, 32, 32], layers_per_block=1, norm_num_groups=8, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
    )  # fmt: skip
    tokenizer = _tokenizer(folder)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2, projection_dim=32,
        max_position_embeddings=77, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    StableDiffusionXLPipeline(
        unet=unet, vae=vae, scheduler=scheduler, tokenizer=tokenizer, tokenizer_2=tokenizer,
        text_encoder=CLIPTextModel(text), text_encoder_2=CLIPTextModelWithProjection(text),
    ).save_pretrained(folder)  # fmt: skip


def _tokenizer(folder: str) -> CLIPTokenizer:
    """Return CLIP's tokenizer without any merge: each byte is a token, within a word and at its end."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in plain] + [chr(256 + number) for number in range(256 - len(plain))]
    words = [*SPECIAL, *letters, *(letter + "</w>" for letter in letters)]
    files = [os.path.join(folder, name) for name in ("vocab.json", "merges.txt")]
    os.makedirs(folder, exist_ok=True)
    for path, content in zip(files, (json.dumps({word: number for number, word in enumerate(words)}), "#version: 0.2\n"), strict=True):
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
    tokenizer = CLIPTokenizer(*files, model_max_length=77)
    for path in files:
        os.remove(path)
    return tokenizer
