"""Hints: what a teacher's inner layers give, as a lesson for a student's (Romero et al., "FitNets", ICLR 2015)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from quatrain.core.errors import did_you_mean

# A layer of the student and the teacher's whose output it shall give.
Hint = tuple[str, str]
# Features that are all but zero have no scale to be compared on.
_LEAST_POWER = 1e-12
_IMAGE_DIMS = 4


class Hinted(nn.Module):
    """The student's part that gives logits, answering (logits, hints (B,)).

    A hint is the mean squared difference of a student's layer from the teacher's, in shares of the
    teacher's mean square, averaged over the layers. Where widths differ, a projection stands
    between them (1 x 1 convolution or linear); it is trained along and thrown away.
    """

    def __init__(self, part: nn.Module, teacher: nn.Module, seen: _Seen, told: _Seen, adapters: nn.ModuleList) -> None:
        super().__init__()
        self.part = part
        self.adapters = adapters
        # In a tuple, so that the teacher is neither trained, saved, nor put into training mode.
        self._teacher = (teacher,)
        self._seen, self._told = seen, told

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the student's logits and each row's distance from the hints."""
        with torch.no_grad():
            self._teacher[0].to(inputs.device)(inputs)
        logits: Tensor = self.part(inputs)
        distances = [
            relative_distance(adapter(given), wanted)
            for adapter, given, wanted in zip(self.adapters, self._seen.outputs(), self._told.outputs(), strict=True)
        ]
        return logits, torch.stack(distances).mean(0)


@contextmanager
def hinted(
    student: nn.Module,
    teacher: nn.Module,
    hints: Sequence[Hint],
    *,
    logits: Callable[[nn.Module], nn.Module],
    example: Tensor,
) -> Iterator[Hinted]:
    """Give the student with its hints, built on rows `example`; nothing stays on either module afterwards.

    Raises ValueError for a layer that is not there, does not run, or has another number of dimensions.
    """
    part, teaching = logits(student), logits(teacher).eval()
    with (
        closing(_Seen(student, [hint[0] for hint in hints], "student")) as seen,
        closing(_Seen(teacher, [hint[1] for hint in hints], "teacher")) as told,
    ):
        was_training = part.training
        with torch.no_grad():
            part.eval()(example.to(_device_of(part)))
            teaching(example.to(_device_of(teaching)))
        part.train(was_training)
        pairs = zip(hints, seen.outputs(), told.outputs(), strict=True)
        adapters = nn.ModuleList(_adapter(hint, given, wanted) for hint, given, wanted in pairs)
        yield Hinted(part, teaching, seen, told, adapters)


def relative_distance(given: Tensor, wanted: Tensor) -> Tensor:
    """Return each row's mean squared difference over the mean square of all `wanted`, (B,); maps are pooled alike."""
    if given.ndim == _IMAGE_DIMS and given.shape[2:] != wanted.shape[2:]:
        given = functional.adaptive_avg_pool2d(given, (wanted.shape[2], wanted.shape[3]))
    power = wanted.square().mean().clamp_min(_LEAST_POWER)
    return (given - wanted).square().flatten(1).mean(1) / power


class _Seen:
    """What named layers of a module gave when it last ran."""

    def __init__(self, module: nn.Module, names: Sequence[str], whose: str) -> None:
        layers = dict(module.named_modules())
        for name in names:
            if name not in layers:
                raise ValueError(f"the {whose} has no layer {name!r}{did_you_mean(name, layers)}")
        self._names, self._whose = names, whose
        self._last: dict[str, Tensor] = {}
        self._hooks = [layers[name].register_forward_hook(self._keeping(name)) for name in set(names)]

    def _keeping(self, name: str) -> Callable[[nn.Module, object, object], None]:
        def keep(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, Tensor):
                self._last[name] = output

        return keep

    def outputs(self) -> list[Tensor]:
        """Return the last outputs, in the order of the names."""
        for name in self._names:
            if name not in self._last:
                raise ValueError(f"layer {name!r} of the {self._whose} gives no tensor on the way to the logits")
        return [self._last[name] for name in self._names]

    def close(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._last.clear()


def _adapter(hint: Hint, given: Tensor, wanted: Tensor) -> nn.Module:
    channel = 1 if given.ndim == _IMAGE_DIMS else -1
    tokens = (given.shape[1:-1], wanted.shape[1:-1])
    if given.ndim != wanted.ndim or (given.ndim != _IMAGE_DIMS and tokens[0] != tokens[1]):
        raise ValueError(
            f"layers {hint[0]!r} and {hint[1]!r} cannot be compared: they give {tuple(given.shape)} and "
            f"{tuple(wanted.shape)}; name layers of one kind"
        )
    width, target = given.shape[channel], wanted.shape[channel]
    if width == target:
        return nn.Identity()
    return nn.Conv2d(width, target, 1) if given.ndim == _IMAGE_DIMS else nn.Linear(width, target)


def _device_of(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
