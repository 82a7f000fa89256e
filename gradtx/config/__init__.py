"""Optimizers as plain data, for JSON and YAML, and as text: `to_config`, `from_config`."""

from gradtx.config.names import know as know
from gradtx.config.reading import from_config as from_config
from gradtx.config.writing import to_config as to_config
