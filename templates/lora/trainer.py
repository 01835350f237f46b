"""The trainer: it knows the rows of each pass, and counts the loss of rows held back exactly."""

from __future__ import annotations

from typing import Any

import torch
import transformers
import weights

OURS = ("rows", "tokens")
"""What a batch tells beside the model's own inputs: numbers of its samples, and how many of its tokens are no padding."""


class RowTrainer(transformers.Trainer):
    """transformers' trainer, for batches that say which rows they are made of."""

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

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Read a whole model as it was written: the trainer's own way loses the experts that transformers 5 saves under older names."""
        if weights.is_adapted(self.model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            weights.take_checkpoint(self.model, resume_from_checkpoint)

    def broken_samples(self) -> list[int]:
        """Return the samples of the passes of this step whose loss is no number; those of all its passes where each loss is one."""
        broken = [rows for rows, loss in self._passes[1] if not bool(torch.isfinite(loss))] or [rows for rows, _ in self._passes[1]]
        return [number for rows in broken for number in rows.flatten().tolist() if number >= 0]

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Return the loss of the rows held back: the mean over all their learnt tokens, however they are batched."""
        collate = self.held_collator or self.data_collator
        held, size, total, count = self.eval_dataset, self.args.per_device_train_batch_size, 0.0, 0
        training, model = self.model.training, self.model
        model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            for first in range(0, len(held), size):
                batch = collate([held[number] for number in range(first, min(first + size, len(held)))])
                loss, learnt = self.held_loss(model, self._prepare_inputs(batch))
                total, count = total + loss, count + learnt
        model.train(training)
        metrics = {f"{metric_key_prefix}_loss": total / max(count, 1)}
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def held_loss(self, model: Any, inputs: dict[str, Any]) -> tuple[float, int]:
        """Return the loss of a batch added up over what is learnt of it, and how much that is."""
        learnt = int((inputs["labels"][:, 1:] != -100).sum())
        return float(self.pass_loss(model, inputs)) * learnt, learnt
