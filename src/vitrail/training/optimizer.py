"""AdamW over a stage's components, each with its own learning rate; float32 state whatever the model computes in.

With bfloat16 weights the optimizer keeps float32 masters and copies them back after each step: small updates would
otherwise be rounded away. Gradients of the packs of a step are summed in float32 too: in bfloat16 a sum of 256 is
1 to 2 % off. Bytes a trained parameter, its own included: `BYTES`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vitrail.contracts.errors import RecipeError, nearest
from vitrail.training.config import AdamWConfig
from vitrail.training.parallel.single import Parallel

MOMENTS = ("exp_avg", "exp_avg_sq")
BYTES = {torch.float32: 4 + 4 + 8, torch.bfloat16: 2 + 2 + 8 + 4 + 4}
"""Of a trained parameter by its format: itself, the gradient of a pass and two moments; of a short one besides, its
float32 copy and the float32 sum of its gradients."""


def freeze_all_but(model: nn.Module, components: Mapping[str, float], stage: str) -> None:
    """Sets requires_grad by component: of all its parameters, or of those that it names in `trainable_parameters()`.

    Raises RecipeError for a component the model has not.
    """
    known = [name for name, child in model.named_children() if any(True for _ in child.parameters())]
    for name in components:
        if name not in known:
            raise RecipeError(
                f"stages.{stage}.train: unknown component '{name}'{nearest(name, known)}; known: {', '.join(known)}"
            )
    for name, child in model.named_children():
        child.requires_grad_(False)
        if name in components:
            for parameter in getattr(child, "trainable_parameters", child.parameters)():
                parameter.requires_grad_(True)


class Optimizer:
    """AdamW for the parameters that a stage trains; of sharded ones, for this rank's part. It works value by value."""

    def __init__(
        self, model: nn.Module, rates: Mapping[str, float], config: AdamWConfig, parallel: Parallel | None = None
    ) -> None:
        """parallel: who else has a part of the parameters."""
        self.clip = config.clip
        self.parallel = parallel or Parallel()
        self.rates = dict(rates)
        self.names: list[str] = []
        self.parameters: list[nn.Parameter] = []
        self.masters: list[Tensor] = []
        groups = []
        for component, rate in rates.items():
            for decays in (True, False):
                group = self._masters(model, component, decays)
                if group:
                    decay = config.weight_decay if decays else 0.0
                    groups.append({"params": group, "lr": rate, "weight_decay": decay, "component": component})
        self.adamw = torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)

    def _masters(self, model: nn.Module, component: str, decays: bool) -> list[Tensor]:
        """The float32 tensors the optimizer moves: the parameters themselves when they are float32."""
        group: list[Tensor] = []
        for name, parameter in model.get_submodule(component).named_parameters():
            if (parameter.ndim > 1) != decays or not parameter.requires_grad:
                continue
            master = self.parallel.local(parameter)
            if _short(parameter):
                master = master.detach().float().clone()
            self.names.append(f"{component}.{name}")
            self.parameters.append(parameter)
            self.masters.append(master)
            group.append(master)
        return group

    def collect(self) -> None:
        """Adds what a pass has left in the parameters' gradients to those of the masters, in float32; after each pass.

        Where parameters are their own masters, autograd has done it.
        """
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if parameter is master or parameter.grad is None:
                continue
            gradient = self.parallel.local(parameter.grad)
            if master.grad is None:
                master.grad = gradient.float()
            else:
                master.grad += gradient
            parameter.grad = None

    def step(self, factor: float, *, moves: bool = True) -> float:
        """Clips, moves, clears. factor: of the schedule. Returns the gradient's norm before clipping.

        moves: false only clears. Nothing moves by a gradient that is not finite.
        """
        self.collect()
        self.parallel.reduce(self.parameters, self.masters)
        norm = self.parallel.clip(self.parameters, self.masters, self.clip or float("inf"))
        for group in self.adamw.param_groups:
            group["lr"] = self.rates[group["component"]] * factor
        moves = moves and math.isfinite(norm)
        if moves:
            self.adamw.step()
        with torch.no_grad():
            for parameter, master in zip(self.parameters, self.masters, strict=True):
                if moves and _short(parameter):
                    self.parallel.local(parameter).copy_(master)
                parameter.grad = master.grad = None
        return norm

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, by parameter name; whole tensors, which rank 0 alone may use."""
        tensors: dict[str, Tensor] = {}
        for name, parameter, master in zip(self.names, self.parameters, self.masters, strict=True):
            moments = self.adamw.state.get(master, {})
            for key in MOMENTS:
                if key in moments:
                    tensors[f"{key}.{name}"] = self.parallel.whole(parameter, moments[key])
            if "step" in moments:
                tensors[f"step.{name}"] = moments["step"]
            if _short(parameter):
                tensors[f"master.{name}"] = self.parallel.whole(parameter, master)
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`; nothing changes when `tensors` is empty, as at the start of a stage."""
        if not tensors:
            return
        with torch.no_grad():
            for name, parameter, master in zip(self.names, self.parameters, self.masters, strict=True):
                if f"step.{name}" in tensors:
                    moments = {key: self.parallel.part(parameter, tensors[f"{key}.{name}"]) for key in MOMENTS}
                    found = {"step": tensors[f"step.{name}"], **moments}
                    self.adamw.state[master] = {
                        key: tensor.to(master.device, copy=True) for key, tensor in found.items()
                    }
                if _short(parameter):
                    master.copy_(self.parallel.part(parameter, tensors[f"master.{name}"]))


def _short(parameter: Tensor) -> bool:
    """Whether the optimizer moves a float32 copy, and the parameter follows."""
    return parameter.dtype != torch.float32
