"""The life of a state: as named arrays, saved, loaded into another optimizer, edited."""
