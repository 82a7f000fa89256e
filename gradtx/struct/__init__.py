"""What every object is: a frozen dataclass that JAX sees through, printed, compared, edited."""

from gradtx.struct.answers import answering as answering
from gradtx.struct.base import (
    Fixed as Fixed,
    Static as Static,
    Struct as Struct,
    converted as converted,
    static as static,
    whole as whole,
    with_functions_wrapped as with_functions_wrapped,
    within as within,
)
from gradtx.struct.editing import fields_below as fields_below
from gradtx.struct.equality import NUMBERS as NUMBERS, same as same
from gradtx.struct.judging import (
    FINITE as FINITE,
    entries as entries,
    numbers as numbers,
    refuse_object as refuse_object,
)
from gradtx.struct.messages import (
    complaint as complaint,
    nearest as nearest,
    shortened as shortened,
    type_error as type_error,
    value_error as value_error,
)
from gradtx.struct.naming import Entry as Entry, named_numbers as named_numbers
from gradtx.struct.printing import shown as shown
from gradtx.struct.table import FrozenTree as FrozenTree, Table as Table
