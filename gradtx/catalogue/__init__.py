"""Every optimizer and every link in one table.

Tests, benchmarks and the comparison derive from it: a row here is all that makes an algorithm
known to them. Names of rows are those that `gradtx compare` takes.
"""

from gradtx.catalogue.links import links as links
from gradtx.catalogue.optimizers import optimizers as optimizers
from gradtx.catalogue.row import Row as Row
from gradtx.catalogue.wrappers import wrappers as wrappers
