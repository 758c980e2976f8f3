"""Graphs in integers through ONNX Runtime: static with calibrated ranges, or dynamic.

Activations are uint8 and weights int8 per channel: the pair that AVX512-VNNI multiplies in one
instruction. What comes after the last convolution or matrix product stays in float, since a
probability in 256 steps would tie rows that differ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from quatrain.core.compression import graph_edits, preparing
from quatrain.core.compression.artifact import Artifact, Step, digest_of
from quatrain.core.compression.bias_correction import correct_biases
from quatrain.core.compression.gate import Promise, RefusedError
from quatrain.core.compression.measures import Array, Arrays, sqnr_db
from quatrain.core.inference import open_session

if TYPE_CHECKING:
    import onnx

    from quatrain.core.compression.retraining import TrainingRows

Method = Literal["minmax", "percentile", "entropy"]
# Matrix products alone: the choice for Transformers, whose other parts lose more in int8 than they save.
MATMUL_ONLY = ("MatMul", "Gemm")


@dataclass(frozen=True, kw_only=True, eq=False)
class Int8:
    """Static quantization: ranges of activations from calibration rows, never from held-back ones.

    "auto" takes the method whose outputs have the least noise on every second calibration row, with
    ranges from the others. `operators` None is all that ONNX Runtime can quantise; percentile and
    entropy keep every activation of the calibration rows in memory.
    """

    calibration: Arrays
    method: Method | Literal["auto"] = "auto"
    operators: tuple[str, ...] | None = None
    # Names of nodes that stay in float.
    keep_float: tuple[str, ...] = ()
    # How many nodes may stay in float where all in int8 is too coarse, the most sensitive ones first.
    mixed: int = 0
    # Rows to train on where nodes in float do not help either: the last resort, for a plan with a module.
    qat: TrainingRows | None = None
    # Takes off each bias what rounding adds to the mean of its channel.
    correct_bias: bool = True
    # Carries NaN and infinity past the integers, which have none.
    guard: bool = True

    promise = Promise(same_model=True, integers=True)

    @property
    def name(self) -> str:
        """What the report calls it."""
        name = "int8" if self.operators is None else f"int8 {'+'.join(self.operators)}"
        return f"{name}, {len(self.keep_float)} in float" if self.keep_float else name

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the outcome."""
        return {
            "step": "int8",
            "calibration": digest_of(self.calibration),
            "rows": len(next(iter(self.calibration.values()))),
            "method": self.method,
            "operators": self.operators,
            "keep_float": self.keep_float,
            "correct_bias": self.correct_bias,
            "guard": self.guard,
        }

    def apply(self, before: Artifact) -> Artifact:
        """Return the graph in int8; raises RefusedError for calibration rows that stand for nothing."""
        from quatrain.core.compression.calibration import require_representative

        require_representative(self.calibration, before.inputs)
        prepared = preparing.prepared(before.onnx)
        _require_products(prepared, self.operators, self.keep_float)
        method, notes = self._choose(prepared)
        return self.finish(prepared, replace(before, notes=notes), method=method)

    def finish(
        self,
        prepared: onnx.ModelProto,
        before: Artifact,
        *,
        method: Method,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> Artifact:
        """Return the prepared graph in int8; `ranges` by tensor stand in for those of the calibration rows."""
        model = self._quantised(prepared, self.calibration, method, ranges=ranges or {})
        # Weights that were trained as integers expect their shifts.
        if self.correct_bias and ranges is None:
            correct_biases(model, prepared, self.calibration)
        return preparing.closed(model, before, guard=self.guard, whole_batch=False, notes=before.notes)

    @property
    def _is_matmul_only(self) -> bool:
        return self.operators is not None and set(self.operators) <= set(MATMUL_ONLY)

    def fallbacks(self, before: Artifact) -> Iterator[Step]:
        """Yield the step with the 1, 2, 4, ... most sensitive nodes in float, up to `mixed`, then trained for int8."""
        if self.mixed > 0:
            yield from self._with_nodes_in_float(before)
        if self.qat is not None:
            from quatrain.core.compression.qat import QuantizationAware

            yield QuantizationAware(int8=replace(self, mixed=0, qat=None), training=self.qat)

    def _with_nodes_in_float(self, before: Artifact) -> Iterator[Step]:
        prepared = preparing.prepared(before.onnx)
        ranked = self._by_sensitivity(prepared)
        n_kept = 1
        while n_kept <= min(self.mixed, len(ranked) - 1):
            yield replace(self, keep_float=(*self.keep_float, *ranked[:n_kept]), mixed=0, qat=None)
            n_kept *= 2

    def _by_sensitivity(self, prepared: onnx.ModelProto) -> list[str]:
        """Return the names of products, the one first that alone in int8 makes the most noise."""
        expected = _answers(prepared, self.calibration)
        alone = {
            name: self._quantised(prepared, self.calibration, "minmax", only=name)
            for name in graph_edits.products_of(prepared.graph, self.operators, self.keep_float)
        }
        noise = {name: min(map(sqnr_db, expected, _answers(model, self.calibration))) for name, model in alone.items()}
        return sorted(noise, key=lambda name: noise[name])

    def _choose(self, prepared: onnx.ModelProto) -> tuple[Method, tuple[str, ...]]:
        if self.method != "auto":
            return self.method, ()
        ranging = {name: array[::2] for name, array in self.calibration.items()}
        judging = {name: array[1::2] for name, array in self.calibration.items()}
        expected = _answers(prepared, judging)
        noise = {
            method: min(map(sqnr_db, expected, _answers(self._quantised(prepared, ranging, method), judging)))
            for method in get_args(Method)
        }
        best: Method = max(noise, key=lambda method: noise[method])
        figures = ", ".join(f"{method} {value:.1f} dB" for method, value in noise.items())
        return best, (f"calibration {best} of {figures}",)

    def _quantised(
        self,
        prepared: onnx.ModelProto,
        rows: Arrays,
        method: Method,
        only: str | None = None,
        ranges: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    ) -> onnx.ModelProto:
        import onnx
        from onnxruntime import quantization  # type: ignore[import-untyped]  # ships no types

        from quatrain.core.compression.calibration import Reader

        calibrations = {
            "minmax": quantization.CalibrationMethod.MinMax,
            "percentile": quantization.CalibrationMethod.Percentile,
            "entropy": quantization.CalibrationMethod.Entropy,
        }
        # Where products alone are quantised, rounding what they give as well would only add noise and work.
        extra: dict[str, Any] = (
            {"OpTypesToExcludeOutputQuantization": list(MATMUL_ONLY)} if self._is_matmul_only else {}
        )
        if ranges:
            extra["TensorQuantOverrides"] = {
                name: [{"rmin": np.array(low, np.float32), "rmax": np.array(high, np.float32)}]
                for name, (low, high) in ranges.items()
            }
        with tempfile.TemporaryDirectory() as folder, preparing.silent():
            target = Path(folder) / "int8.onnx"
            quantization.quantize_static(
                graph_edits.copy_of(prepared),
                target,
                Reader(rows),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=None if self.operators is None else list(self.operators),
                nodes_to_quantize=[only] if only is not None else None,
                nodes_to_exclude=list(self.keep_float),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=calibrations[method],
                extra_options=extra,
            )
            model = onnx.load(target)
        graph_edits.keep_tail_in_float(model.graph, prepared.graph)
        return model


@dataclass(frozen=True, kw_only=True)
class DynamicInt8:
    """Dynamic quantization: weights in int8, activations scaled batch by batch as they come.

    It needs no calibration rows. A row's answer depends a little on the other rows of its batch,
    which the report says and the golden tolerance allows for.
    """

    operators: tuple[str, ...] = MATMUL_ONLY
    keep_float: tuple[str, ...] = ()
    guard: bool = True

    promise = Promise(same_model=True, integers=True)

    @property
    def name(self) -> str:
        """What the report calls it."""
        return "int8 dynamic"

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the outcome."""
        return {
            "step": "dynamic int8",
            "operators": self.operators,
            "keep_float": self.keep_float,
            "guard": self.guard,
        }

    def apply(self, before: Artifact) -> Artifact:
        """Return the graph with int8 weights."""
        import onnx
        from onnxruntime import quantization

        prepared = preparing.prepared(before.onnx)
        _require_products(prepared, self.operators, self.keep_float)
        with tempfile.TemporaryDirectory() as folder, preparing.silent():
            target = Path(folder) / "int8.onnx"
            quantization.quantize_dynamic(
                prepared,
                target,
                op_types_to_quantize=list(self.operators),
                nodes_to_exclude=list(self.keep_float),
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
            )
            model = onnx.load(target)
        return preparing.closed(model, before, guard=self.guard, whole_batch=True, notes=())

    def fallbacks(self, before: Artifact) -> Iterator[Step]:
        """Yield nothing: name the nodes to keep in float instead."""
        del before
        yield from ()


def _require_products(
    prepared: onnx.ModelProto, operators: tuple[str, ...] | None, keep_float: tuple[str, ...]
) -> None:
    if not graph_edits.products_of(prepared.graph, operators, keep_float):
        found = ", ".join(sorted({node.op_type for node in prepared.graph.node}))
        asked = "convolution or matrix product" if operators is None else f"product among {', '.join(operators)}"
        raise RefusedError(f"there is nothing to quantise: no {asked} is left of the graph's operators, {found}")


def _answers(model: onnx.ModelProto, rows: Arrays) -> list[Array]:
    answers: list[Array] = open_session(model.SerializeToString(), threads=1).run(None, dict(rows))
    return answers
