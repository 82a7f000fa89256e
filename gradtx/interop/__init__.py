"""To and from other libraries, none of which is imported before it is needed.

Transformations are taken and given in `gradtx.foreign`; here are their states, of Optax and of
PyTorch: what is foreign is turned into named arrays, of which `load_state` makes ours.
"""

from gradtx.foreign import from_optax as from_optax, to_optax as to_optax
from gradtx.interop.optax_states import from_optax_state as from_optax_state
from gradtx.interop.torch_states import from_torch_state as from_torch_state
