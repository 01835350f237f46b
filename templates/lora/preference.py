"""Preference training (DPO): a good answer becomes likelier than a bad one, as seen from the model that the training began with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ranks
import torch
from telemetry import RANK, WORLD
from torch.nn import functional
from trainer import RowTrainer


class PreferenceTrainer(RowTrainer):
    """The trainer of pairs: a batch holds the chosen and the rejected answer of each pair, one behind the other."""

    can_fill = False

    def __init__(self, *, beta: float, kind: str, **more: Any) -> None:
        super().__init__(**more)
        self._beta, self._kind = beta, kind
        self._rewards: dict[bool, list[Any]] = {False: [], True: []}
        self.model_accepts_loss_kwargs = False  # the loss is a mean over pairs, not over tokens
        self._reference = self._reference_of(self.train_dataset)
        self._held_reference = self._reference_of(self.eval_dataset) if self.eval_dataset is not None else None

    def pass_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **more: Any) -> Any:
        """Return the loss of a pass."""
        reference = self._reference if model.training or self._held_reference is None else self._held_reference
        said = self.said(model, inputs)
        margin = said - reference.to(said.device)[inputs["rows"]]
        if self._kind == "ipo":  # by token, as its authors have it
            margin = margin / (inputs["labels"][:, 1:] != -100).sum(-1)
        apart = margin[0::2] - margin[1::2]
        self._rewards[model.training].append((self._beta * apart).detach().float().cpu())
        return losses(apart, self._beta, self._kind).mean()

    def log(self, logs: dict[str, Any], *args: Any, **more: Any) -> None:
        """Tell beside a loss how often the good answer is by now likelier than the bad one, as seen from the beginning, and by how much."""
        for loss, is_training in (("loss", True), ("eval_loss", False)):
            if loss in logs and self._rewards[is_training]:
                margins, self._rewards[is_training] = torch.cat(ranks.told(torch.cat(self._rewards[is_training]))), []
                said = {"reward_accuracy": (margins > 0).float().mean(), "reward_margin": margins.mean()}
                logs |= {loss.replace("loss", name): float(value) for name, value in said.items()}
        super().log(logs, *args, **more)

    def held_loss(self, model: Any, inputs: dict[str, Any]) -> tuple[float, int]:
        """Return the loss of a batch of pairs added up, and how many there are."""
        pairs = len(inputs["rows"]) // 2
        return float(self.pass_loss(model, inputs)) * pairs, pairs

    def said(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Return the logarithm of the likelihood of each answer."""
        labels = inputs["labels"][:, 1:]
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, :-1]
        losses = functional.cross_entropy(logits.transpose(1, 2).float(), labels, ignore_index=-100, reduction="none")
        return -losses.sum(-1)

    def _reference_of(self, pairs: Sequence[Any]) -> Any:
        """Return what the model says of every answer before it is trained: then no second model is needed."""
        model, size, found = self.model, self.args.per_device_train_batch_size, []
        training = model.training
        model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            # Each process asks of its share.
            for first in range(0, len(pairs), size)[RANK::WORLD]:
                batch = self.data_collator([pairs[number] for number in range(first, min(first + size, len(pairs)))])
                found.append(self.said(model, self._prepare_inputs(batch)).float().cpu())
        model.train(training)
        parts = ranks.told(found)
        return torch.cat([parts[turn % WORLD][turn // WORLD] for turn in range(sum(map(len, parts)))])


def losses(margin: Any, beta: float, kind: str) -> Any:
    """Return the loss of each pair from how much more than before the good answer is said than the bad one."""
    if kind == "ipo":
        return (margin - 1 / (2 * beta)) ** 2
    return torch.relu(1 - beta * margin) if kind == "hinge" else -functional.logsigmoid(beta * margin)
