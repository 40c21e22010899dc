"""The training loop. Interrupted at any step, it resumes and ends with the same weights."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from hipedge.errors import ConfigError
from hipedge.train.distributed import DistributedContext
from hipedge.train.files import save_atomically
from hipedge.train.samples import BatchSampler

STATE = "state.pt"
# Interval in steps at which losses are fetched from the device and progress is reported.
REPORT_STEPS = 10
# Warm-up of the moving average, in steps: its decay is (1 + t)/(AVERAGE_WARMUP + t) at first.
AVERAGE_WARMUP = 10
# Factor on the learning rate for fine-tuning pretrained parameters.
PRETRAINED_PACE = 0.2


@dataclass(frozen=True)
class Schedule:
    """Length and learning rate of training: AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101).

    The learning rate rises linearly over the fraction `warmup` of the steps, then decays to zero
    along half a cosine (Loshchilov and Hutter, 2017, arXiv:1608.03983). `batch_size` is the total
    over all processes. `average` is the decay of the moving average of the weights.
    """

    steps: int
    batch_size: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    average: float = 0.999
    clip: float = 5.0
    seed: int = 0

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        part = (step - rising) / max(1, self.steps - rising)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * part))


@dataclass(frozen=True)
class Progress:
    """Progress of a training after `step` of `steps` steps.

    `loss` is the mean since the last validation; `score` is that of the last validation, or None
    before the first.
    """

    step: int
    steps: int
    loss: float
    score: float | None


@dataclass
class History:
    """The step of each validation, the mean loss since the previous validation, and the score."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


class Objective(nn.Module):
    """A network and its loss: `forward` takes a batch and returns the loss, a scalar.

    What the loss has to learn for itself is trained with the network, but is not a part of the
    result. The parameters of `pretrained` are fine-tuned at a reduced learning rate.
    """

    network: nn.Module
    pretrained: nn.Module | None = None


Validate = Callable[[nn.Module], float]
OnProgress = Callable[[Progress], None]


class MovingAverage:
    """An exponential moving average of a network's weights and running statistics.

    The decay grows with the steps t as (1 + t)/(10 + t) up to `decay`, so that the random initial
    weights soon lose their influence.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Update the average with the weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (AVERAGE_WARMUP + step))
        ours, theirs = self.network.state_dict(), network.state_dict()
        for name, value in ours.items():
            if value.is_floating_point():
                value.lerp_(theirs[name], 1 - decay)
            else:
                value.copy_(theirs[name])


def fit(
    objective: Objective,
    samples: Dataset[Any],
    validate: Validate,
    schedule: Schedule,
    folder: Path,
    *,
    place: DistributedContext,
    workers: int = 0,
    validate_steps: int | None = None,
    save_s: float = 600.0,
    on_progress: OnProgress = lambda _: None,
) -> tuple[nn.Module, History]:
    """Train, and return the averaged network with the history of its validations.

    The average is validated every `validate_steps` steps, by default once an epoch. The state is
    saved in `folder` after each validation and every `save_s` seconds; if `folder` has a saved
    state, the training resumes from it. On the CPU the result of a resumed training is
    bit-identical to that of an uninterrupted one.

    Raises `ConfigError` if a batch is larger than the number of samples, or smaller than the
    number of processes.
    """
    size = len(samples)  # type: ignore[arg-type]  # torch's Dataset declares no length
    if not place.world <= schedule.batch_size <= size:
        raise ConfigError(
            f"batches of {schedule.batch_size} cannot be made from {size} samples"
            f" for {place.world} processes: choose another batch size"
        )
    trainer = _Trainer(objective.to(place.device), schedule, place)
    if (folder / STATE).exists():
        trainer.restore(folder / STATE)
    batches = BatchSampler(
        size,
        batch_size=schedule.batch_size,
        steps=schedule.steps,
        start=trainer.step,
        seed=schedule.seed,
        rank=place.rank,
        world=place.world,
    )
    loader = DataLoader(samples, batch_sampler=batches, num_workers=workers)
    every = validate_steps or size // schedule.batch_size
    saved = time.monotonic()
    for batch in loader:
        trainer.take_step(batch)
        ends = trainer.step == schedule.steps
        if ends or trainer.step % every == 0:
            trainer.validate(validate)
        if place.leads and (ends or trainer.step % REPORT_STEPS == 0):
            on_progress(trainer.progress())
        if place.leads and (ends or trainer.step % every == 0 or time.monotonic() - saved > save_s):
            trainer.save(folder / STATE)
            saved = time.monotonic()
    place.wait()
    return trainer.average.network, trainer.history


class _Trainer:
    """The state of a training that each step updates and that checkpoints save and restore."""

    def __init__(self, objective: Objective, schedule: Schedule, place: DistributedContext) -> None:
        self.schedule, self.place = schedule, place
        self.objective = objective
        self.network = objective.network
        self.average = MovingAverage(objective.network, schedule.average)
        self.parallel: nn.Module = objective
        if place.world > 1:
            self.parallel = DistributedDataParallel(objective)
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(objective, schedule.weight_decay), lr=0.0
        )
        half = place.device.type == "cuda" and not torch.cuda.is_bf16_supported()
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=half)
        self.step = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=place.device)
        self.loss_steps = 0
        self.history = History()

    def take_step(self, batch: Iterable[Tensor]) -> None:
        # Dropout too is the same after a resumption.
        key = (self.schedule.seed, self.step, self.place.rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        self.objective.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate_at(self.step) * group["pace"]
        loss = self.parallel(*(part.to(self.place.device, non_blocking=True) for part in batch))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.objective.parameters(), self.schedule.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.average.update(self.network, self.step)
        self.loss_sum += loss.detach()
        self.loss_steps += 1

    def validate(self, validate: Validate) -> None:
        """Validate the averaged network in the leading process, while the others wait."""
        if self.place.leads:
            self.history.steps.append(self.step)
            self.history.losses.append(self._mean_loss())
            self.history.scores.append(validate(self.average.network))
        self.loss_sum.zero_()
        self.loss_steps = 0
        self.place.wait()

    def progress(self) -> Progress:
        scores, losses = self.history.scores, self.history.losses
        loss = self._mean_loss() if self.loss_steps else losses[-1]
        return Progress(self.step, self.schedule.steps, loss, scores[-1] if scores else None)

    def _mean_loss(self) -> float:
        return float(self.loss_sum) / self.loss_steps

    def save(self, path: Path) -> None:
        content = {
            "schedule": vars(self.schedule),
            "step": self.step,
            "objective": self.objective.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loss_sum": self.loss_sum,
            "loss_steps": self.loss_steps,
            "history": vars(self.history),
        }
        save_atomically(path, content)

    def restore(self, path: Path) -> None:
        """Resume from a saved state.

        Raises `ConfigError` if it belongs to another schedule, or was saved by hipedge 0.3 or
        before, which did not save all that may be trained.
        """
        content = torch.load(path, map_location=self.place.device, weights_only=True)
        if "objective" not in content:
            raise ConfigError(f"{path} was saved by an older hipedge: give another folder")
        if content["schedule"] != vars(self.schedule):
            raise ConfigError(
                f"{path} is of a training with other settings: give those, or another folder"
            )
        self.objective.load_state_dict(content["objective"])
        self.average.network.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        self.step, self.loss_steps = content["step"], content["loss_steps"]
        self.loss_sum.copy_(content["loss_sum"])
        self.history = History(**content["history"])


def _parameter_groups(objective: Objective, weight_decay: float) -> list[dict[str, object]]:
    """Group parameters by learning rate and weight decay.

    Only the weights of convolutions and linear layers are decayed.
    """
    pretrained = set(objective.pretrained.parameters()) if objective.pretrained else set()
    groups: list[dict[str, object]] = []
    for pace in (1.0, PRETRAINED_PACE):
        parameters = [
            parameter
            for parameter in objective.parameters()
            if parameter.requires_grad and (parameter in pretrained) == (pace != 1.0)
        ]
        for decay, matrix in ((weight_decay, True), (0.0, False)):
            chosen = [p for p in parameters if (p.ndim > 1) == matrix]
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "pace": pace})
    return groups


def autocast(device: torch.device) -> torch.autocast:
    """Return the autocast context of a device: bfloat16, or float16 on a GPU without bfloat16."""
    half = device.type == "cuda" and not torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.float16 if half else torch.bfloat16)
