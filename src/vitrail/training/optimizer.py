"""AdamW over a stage's components, each with its own learning rate; float32 state whatever the model computes in.

With bfloat16 weights the optimizer keeps float32 masters and copies them back after each step: small updates would
otherwise be rounded away.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vitrail.contracts.errors import RecipeError, nearest
from vitrail.training.config import AdamWConfig

MOMENTS = ("exp_avg", "exp_avg_sq")


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
    """AdamW for the parameters that a stage trains."""

    def __init__(self, model: nn.Module, rates: Mapping[str, float], config: AdamWConfig) -> None:
        self.clip = config.clip
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
            master = parameter if parameter.dtype == torch.float32 else parameter.detach().float().clone()
            self.names.append(f"{component}.{name}")
            self.parameters.append(parameter)
            self.masters.append(master)
            group.append(master)
        return group

    def step(self, factor: float) -> float:
        """Clips, moves, clears. factor: of the schedule. Returns the gradient's norm before clipping."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if parameter is not master:
                master.grad = None if parameter.grad is None else parameter.grad.float()
        norm = torch.nn.utils.clip_grad_norm_(self.masters, self.clip or float("inf"))
        for group in self.adamw.param_groups:
            group["lr"] = self.rates[group["component"]] * factor
        self.adamw.step()
        with torch.no_grad():
            for parameter, master in zip(self.parameters, self.masters, strict=True):
                if parameter is not master:
                    parameter.copy_(master)
                parameter.grad = master.grad = None
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, by parameter name."""
        tensors: dict[str, Tensor] = {}
        for name, parameter, master in zip(self.names, self.parameters, self.masters, strict=True):
            moments = self.adamw.state.get(master, {})
            for key in MOMENTS:
                if key in moments:
                    tensors[f"{key}.{name}"] = moments[key]
            if "step" in moments:
                tensors[f"step.{name}"] = moments["step"]
            if parameter is not master:
                tensors[f"master.{name}"] = master
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`; nothing changes when `tensors` is empty, as at the start of a stage."""
        if not tensors:
            return
        with torch.no_grad():
            for name, parameter, master in zip(self.names, self.parameters, self.masters, strict=True):
                if f"step.{name}" in tensors:
                    self.adamw.state[master] = {
                        key: tensors[f"{key}.{name}"].to(master.device, copy=True) for key in ("step", *MOMENTS)
                    }
                if parameter is not master:
                    master.copy_(tensors[f"master.{name}"])
