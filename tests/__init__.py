"""A package, so that `tests.golden` cannot be shadowed by another distribution's top-level `tests`."""
