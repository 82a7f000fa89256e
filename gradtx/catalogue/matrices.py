"""Links for matrices, and who is one where models are of all kinds: two axes, or three in a stack.

A guess that is right for the models of the tests and of the comparison, and for no other.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from gradtx.axes import Axes
from gradtx.catalogue.row import Row, table
from gradtx.optimizers.dion import scale_by_dion
from gradtx.optimizers.kron import scale_by_kron
from gradtx.optimizers.lmo import scale_by_lmo
from gradtx.optimizers.lowrank import scale_by_apollo, scale_by_galore
from gradtx.optimizers.muon import (
    scale_by_adago,
    scale_by_adamuon,
    scale_by_muon,
    scale_by_normuon,
)
from gradtx.optimizers.shampoo import scale_by_kl_shampoo, scale_by_shampoo
from gradtx.optimizers.soap import scale_by_soap, scale_by_splus
from gradtx.paths import by_path
from gradtx.transforms.qk_clip import qk_clip
from gradtx.wrappers.partition import masked

MATRICES = {"matrix": Axes("io"), "stack": Axes("bio")}


def kind(path: str, array: Any) -> str:
    return {2: "matrix", 3: "stack"}.get(array.ndim, "other")


def is_matrix(path: str, array: Any) -> bool:
    return kind(path, array) != "other"


def on_matrices(link: Callable[..., Any]) -> Callable[..., Any]:
    """A link that is for matrices; other arrays pass."""

    def make(**hyper: Any) -> Any:
        return masked(link(axes=by_path(MATRICES, kind), **hyper), is_matrix, "pass")

    return make


matrix_links = table(
    Row("qk_clip", "links", "queries and keys of bounded logits", qk_clip),
    Row("scale_by_muon", "links", "the orthogonal factor", on_matrices(scale_by_muon)),
    Row("scale_by_normuon", "links", "with rows of equal size", on_matrices(scale_by_normuon)),
    Row("scale_by_adamuon", "links", "with entries of equal size", on_matrices(scale_by_adamuon)),
    Row("scale_by_adago", "links", "in steps as of Adagrad", on_matrices(scale_by_adago)),
    Row("scale_by_dion", "links", "by one power iteration", on_matrices(scale_by_dion)),
    Row(
        "scale_by_lmo",
        "links",
        "the farthest point of a ball",
        on_matrices(partial(scale_by_lmo, 0.1)),
    ),
    Row("scale_by_soap", "links", "Adam in another basis", on_matrices(scale_by_soap)),
    Row("scale_by_splus", "links", "signs in another basis", on_matrices(scale_by_splus)),
    Row("scale_by_shampoo", "links", "roots on both sides", on_matrices(scale_by_shampoo)),
    Row(
        "scale_by_kl_shampoo",
        "links",
        "roots on both sides, one by the other",
        on_matrices(scale_by_kl_shampoo),
    ),
    Row("scale_by_kron", "links", "whitening that is learned", on_matrices(scale_by_kron)),
    Row("scale_by_galore", "links", "Adam in a subspace", on_matrices(scale_by_galore)),
    Row("scale_by_apollo", "links", "lengths from a sketch", on_matrices(scale_by_apollo)),
)
