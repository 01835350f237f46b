"""The trainer: it knows the rows of each pass, and counts the loss of rows held back exactly."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import ranks
import torch
import transformers
import weights
from accelerate.data_loader import SeedableRandomSampler
from ranks import NOTHING
from telemetry import RANK, WORLD

OURS = ("rows", "tokens")
"""What a batch tells beside the model's own inputs: numbers of its samples, and how many of its tokens are no padding."""


class SharedOrder(torch.utils.data.Sampler):
    """The order in which one process would take the samples, filled up with NOTHING: several then have as many, and none counts twice.

    Whoever makes a data loader of it for several processes that goes on within an epoch does not tell it which one (accelerate 1.15).
    """

    def __init__(self, samples: Any, seed: int, fill: int, epoch: Callable[[], int]) -> None:
        self._order, self._fill, self._epoch = SeedableRandomSampler(samples, data_seed=seed), fill, epoch

    def __iter__(self) -> Iterator[int]:
        self._order.set_epoch(self._epoch())
        yield from self._order
        yield from [NOTHING] * self._fill

    def __len__(self) -> int:
        return len(self._order) + self._fill


class RowTrainer(transformers.Trainer):
    """transformers' trainer, for batches that say which rows they are made of."""

    can_fill = True
    """A sample of which nothing is learnt changes no loss: it is a mean over tokens, not over samples."""
    held_collator: Any = None
    """Makes the batches of rows held back, where those of the training are made otherwise."""
    _passes: tuple[int, list[tuple[Any, Any]]] = (-1, [])
    """A step, and of each of its passes the numbers of its samples and its loss."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **more: Any) -> Any:
        """Return the loss of a pass, and keep what it was made of."""
        self.state.num_input_tokens_seen += int(self.accelerator.gather(inputs["tokens"]).sum())
        loss = self.pass_loss(model, inputs, *args, **more)
        if self._passes[0] != self.state.global_step:
            self._passes = (self.state.global_step, [])
        self._passes[1].append((inputs["rows"], loss.detach()))
        return loss

    def pass_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **more: Any) -> Any:
        """Return the loss of a pass."""
        return super().compute_loss(model, {name: value for name, value in inputs.items() if name not in OURS}, *args, **more)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Return the order of the rows."""
        if WORLD == 1:
            return super()._get_train_sampler(train_dataset)
        at_once, samples = WORLD * self.args.per_device_train_batch_size, self.train_dataset
        steps = math.ceil(math.ceil(len(samples) / at_once) / self.args.gradient_accumulation_steps)
        fill = -len(samples) % at_once if self.can_fill else 0
        return SharedOrder(samples, self.args.data_seed, fill, lambda: self.state.global_step // steps)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Read a whole model as it was written: the trainer's own way loses the experts that transformers 5 saves under older names."""
        if weights.is_adapted(self.model) or weights.is_shared_out(self.model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            weights.take_checkpoint(self.model, resume_from_checkpoint)

    def _save_rng_state(self, output_dir: str) -> None:
        """Have the state of chance of every process in the checkpoint of rank 0, whose folder the others need not share."""
        super()._save_rng_state(output_dir)
        own = os.path.join(output_dir, f"rng_state_{RANK}.pth")
        if WORLD == 1:
            return
        with open(own, "rb") as file:
            states = ranks.told(file.read())
        for rank, state in enumerate(states):
            path = os.path.join(output_dir, f"rng_state_{rank}.pth")
            if RANK == 0 and not os.path.exists(path):
                with open(path, "wb") as out:
                    out.write(state)

    def broken_samples(self) -> list[int]:
        """Return the samples of the passes of this step whose loss is no number; those of all its passes where each loss is one."""
        broken = _told([rows for rows, loss in self._passes[1] if not bool(torch.isfinite(loss))])
        return broken or _told([rows for rows, _ in self._passes[1]])

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Return the loss of the rows held back: the mean over all their learnt tokens, however they are batched."""
        collate = self.held_collator or self.data_collator
        held, size, total, count = self.eval_dataset, self.args.per_device_train_batch_size, 0.0, 0
        training, model = self.model.training, self.model
        model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            batches = list(range(0, len(held), size))
            for turn in range(0, len(batches), WORLD):  # all take part in each turn, for each may hold but a part of the weights
                first = batches[min(turn + RANK, len(batches) - 1)]
                batch = collate([held[number] for number in range(first, min(first + size, len(held)))])
                loss, learnt = self.held_loss(model, self._prepare_inputs(batch))
                total, count = (total + loss, count + learnt) if turn + RANK < len(batches) else (total, count)
        model.train(training)
        of_all, learnt_by_all = ranks.total(total, count)
        metrics = {f"{metric_key_prefix}_loss": of_all / max(learnt_by_all, 1)}
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def held_loss(self, model: Any, inputs: dict[str, Any]) -> tuple[float, int]:
        """Return the loss of a batch added up over what is learnt of it, and how much that is."""
        learnt = int((inputs["labels"][:, 1:] != -100).sum())
        return float(self.pass_loss(model, inputs)) * learnt, learnt


def _told(batches: list[Any]) -> list[int]:
    """Return the samples of batches of all processes."""
    own = [number for rows in batches for number in rows.flatten().tolist() if number != NOTHING]
    return [number for each in ranks.told(own) for number in each]
