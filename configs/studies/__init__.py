"""Studies: each file's `get_config()` returns a base config and its variants."""
