"""What people reported, by kind: the input that was quoted, and others of its kind."""
