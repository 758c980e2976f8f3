"""What the MedMNIST v2 files do not say of themselves: kinds and class names (Yang et al., Scientific Data 2023)."""

from __future__ import annotations

from dataclasses import dataclass

from quatrain.healthcare.data.labelled import Kind


@dataclass(frozen=True)
class KnownSet:
    """One set of the collection."""

    kind: Kind
    classes: tuple[str, ...]
    # What may be turned over without becoming another anatomy: "" nothing, "h" left and right, "hv" both.
    flips: str = ""
    licence: str = "CC BY 4.0"


_ORGANS = (
    "bladder", "left femur", "right femur", "heart", "left kidney", "right kidney", "liver", "left lung", "right lung",
    "pancreas", "spleen",
)  # fmt: skip
_CHEST = (
    "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
    "consolidation", "edema", "emphysema", "fibrosis", "pleural thickening", "hernia",
)  # fmt: skip
_DERMA = (
    "actinic keratoses", "basal cell carcinoma", "benign keratosis", "dermatofibroma", "melanoma", "nevi",
    "vascular lesions",
)  # fmt: skip
_TISSUE = (
    "collecting duct", "distal tubule", "glomerular endothelium", "interstitial endothelium", "leukocytes",
    "podocytes", "proximal tubule", "thick ascending limb",
)  # fmt: skip
_PATH = (
    "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal mucosa", "cancer stroma",
    "colorectal adenocarcinoma",
)  # fmt: skip
_BLOOD = (
    "basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte", "neutrophil",
    "platelet",
)  # fmt: skip
# The beginning of a file's name, such as pneumoniamnist_64.npz.
KNOWN = {
    "pathmnist": KnownSet("multiclass", _PATH, "hv"),
    "chestmnist": KnownSet("multilabel", _CHEST),
    "dermamnist": KnownSet("multiclass", _DERMA, "hv", "CC BY-NC 4.0"),
    "octmnist": KnownSet("multiclass", ("choroidal neovascularization", "macular edema", "drusen", "normal"), "h"),
    "pneumoniamnist": KnownSet("binary", ("normal", "pneumonia")),
    "retinamnist": KnownSet("ordinal", ("grade 0", "grade 1", "grade 2", "grade 3", "grade 4"), "h"),
    # The file's 0 is malignant, its 1 normal or benign.
    "breastmnist": KnownSet("binary", ("malignant", "normal or benign"), "h"),
    "bloodmnist": KnownSet("multiclass", _BLOOD, "hv"),
    "tissuemnist": KnownSet("multiclass", _TISSUE, "hv"),
    "organamnist": KnownSet("multiclass", _ORGANS),
    "organcmnist": KnownSet("multiclass", _ORGANS),
    "organsmnist": KnownSet("multiclass", _ORGANS),
}


def known_set(stem: str) -> KnownSet | None:
    """Return what is known of the file with this name, or None."""
    return next((known for name, known in KNOWN.items() if stem.lower().startswith(name)), None)
