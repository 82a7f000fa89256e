"""Optimizer states of Optax and PyTorch, of which neither is imported."""

from gradtx.imports.optax_states import from_optax_state as from_optax_state
from gradtx.imports.torch_states import from_torch_state as from_torch_state
