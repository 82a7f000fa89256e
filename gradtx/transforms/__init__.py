"""Links for a chain: what is done to an update before, between and after the algorithms."""
