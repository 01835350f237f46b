"""What is done after each look at the rows held back: the best weights are kept, and patience may be over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import heldout
from transformers import TrainerCallback


class HeldBack(TrainerCallback):
    """Keeps the weights with the smallest loss of the rows held back, and ends the training when patience is over."""

    def __init__(self, patience: int, keep: Callable[[], None] | None) -> None:
        self._patience, self._keep = patience, keep

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        best = heldout.best(state.log_history)
        if self._keep and best and best[0] == state.global_step:
            self._keep()
        if heldout.is_over(state.log_history, self._patience) and best:
            print(f"train: the loss of the rows held back was smallest at step {best[0]} ({best[1]:.4f}): patience is over", flush=True)
            control.should_save = control.should_training_stop = True
        return control
