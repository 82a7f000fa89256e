"""The laws of this library as a check for transformations of your own."""

from gradtx.testing.check import check as check
from gradtx.testing.evidence import Evidence as Evidence
from gradtx.testing.laws import LAWS as LAWS, Law as Law
