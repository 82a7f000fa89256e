"""The lift of an algorithm for one array to any tree; a reader of algorithms never needs it."""
