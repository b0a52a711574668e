"""Published networks, one a file; constructor arguments are the paper's table."""
