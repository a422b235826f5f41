"""The keys of the configuration files: types, defaults, ranges and meanings."""
