"""The laws: one property to a test, over every row of the catalogue."""
