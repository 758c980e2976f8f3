"""Steps that train: they work on the network inside the sealed graph, and what follows it stays as it is.

The quotients ahead of the network and the calibration after it are no torch modules: the network is
rebuilt from the bundle's weights, and its new graph takes the place of the old one between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quatrain.core.compression.artifact import Artifact, Step
from quatrain.core.compression.gate import Promise
from quatrain.core.compression.modules import require_same_model, with_weights
from quatrain.core.compression.planned import Materials
from quatrain.core.errors import UsageError
from quatrain.core.export import finished
from quatrain.fintech.compress.alerts import INNER
from quatrain.fintech.compress.config import CompressConfig
from quatrain.fintech.compress.rows import Rows
from quatrain.fintech.models.network_recipe import with_quotients
from quatrain.fintech.models.network_settings import MlpSettings
from quatrain.fintech.models.ratios import Pairs, with_ratios

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from quatrain.core.bundle.open import Bundle

# The layer whose only channel is the log odds.
_KEPT = ("network.head",)
# What all names of the model's own graph begin with in a calibrated one.
_PREFIX = "model_"


@dataclass(frozen=True, kw_only=True)
class Perceptron:
    """The bundle's network as a module, raw inputs and quotients to probability."""

    module: nn.Module
    settings: MlpSettings
    ratios: Pairs

    def materials(self, config: CompressConfig, rows: Rows) -> Materials:
        """Return the rows that the network is trained on after pruning: those that it was trained on before."""
        import torch

        from quatrain.core.compression.retraining import TrainingRows
        from quatrain.fintech.models.network import fit_config

        update = {"epochs": config.epochs, "learning_rate": config.learning_rate}
        settings = self.settings.model_copy(update=update)
        training = TrainingRows(
            inputs=torch.from_numpy(np.ascontiguousarray(with_ratios(rows.known_x, self.ratios))),
            targets=torch.from_numpy(rows.known_y.astype(np.float32)),
            config=fit_config(settings, seed=config.seed, n_rows=len(rows.known_x)),
            logits=_network_of,
        )
        return Materials(training=training, keep=_KEPT)


@dataclass(frozen=True, kw_only=True, eq=False)
class OnNetwork:
    """A step on the network within the graph; it must be the first of a plan."""

    step: Step
    perceptron: Perceptron

    @property
    def name(self) -> str:
        """What the report calls it."""
        return self.step.name

    @property
    def promise(self) -> Promise:
        """What it must show besides keeping the metric."""
        return self.step.promise

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the outcome."""
        return self.step.settings()

    def fallbacks(self, before: Artifact) -> Iterable[Step]:
        """Return nothing: compress less instead."""
        del before
        return ()

    def apply(self, before: Artifact) -> Artifact:
        """Return the graph with the network that the step makes in place of its own."""
        [source], score = before.inputs, next(spec for spec in before.outputs if spec.name == "score")
        x = with_ratios(before.rows[source.name], self.perceptron.ratios)
        inner = Artifact(
            onnx=before.onnx,
            inputs=(source.model_copy(update={"shape": ("batch", x.shape[1]), "columns": ()}),),
            outputs=(score.model_copy(update={"name": "probability"}),),
            rows={source.name: x},
            module=self.perceptron.module,
        )
        after = self.step.apply(inner)
        network = with_quotients(after.onnx, self.perceptron.ratios, n_inputs=int(source.shape[1]))
        return replace(before, onnx=with_network(before.onnx, network), module=None, notes=after.notes)


def perceptron_of(bundle: Bundle) -> Perceptron:
    """Return the bundle's perceptron, rebuilt from its weights and held to its golden scores.

    Raises UsageError for any other model.
    """
    from quatrain.fintech.models.network import Probability, make

    recipe: Mapping[str, Any] = bundle.manifest.training.get("recipe", {})
    if recipe.get("model") != "mlp":
        raise UsageError(
            f"prune works on the perceptron (--set recipe.model=mlp), and {bundle.manifest.name} is "
            f"{recipe.get('model', 'a model of trees')}; leave prune out of the plan"
        )
    names = MlpSettings.model_fields.keys()
    settings = MlpSettings.model_validate({name: value for name, value in recipe.items() if name in names})
    ratios = tuple((int(above), int(below)) for above, below in recipe["ratios"])
    golden, answers = bundle.golden()
    x = with_ratios(golden["features"], ratios)
    # The sizes are those of the weights; the values that an untrained network is made from do not matter.
    untrained = make("mlp", np.zeros((2, x.shape[1]), np.float32), settings, prior=0.5)
    module = Probability(with_weights(untrained, bundle.weights())).eval()
    expected = {"probability": answers["score"]}
    require_same_model(module, {"features": x}, expected, atol=bundle.manifest.golden_atol)
    return Perceptron(module=module, settings=settings, ratios=ratios)


def with_network(calibrated: bytes, network: bytes) -> bytes:
    """Return the calibrated graph with another network, features to `probability`, in place of its own."""
    import onnx

    model, new = onnx.load_from_string(calibrated), onnx.load_from_string(network)
    new = onnx.compose.add_prefix(new, _PREFIX, rename_inputs=False)
    tail = _nodes_after(model.graph, INNER)
    read = {name for node in tail for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    nodes = [*new.graph.node, *tail]
    constants = [*new.graph.initializer, *constants]
    for old, kept in ((model.graph.node, nodes), (model.graph.initializer, constants)):
        del old[:]
        old.extend(kept)
    return finished(model)


def _nodes_after(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """Return the nodes that read the named value, or what comes of it, in their order."""
    known, found = {name}, []
    for node in graph.node:
        if known & set(node.input):
            known |= set(node.output)
            found.append(node)
    return found


def _network_of(module: nn.Module) -> nn.Module:
    """Return the part that gives log odds."""
    return module.get_submodule("network")
