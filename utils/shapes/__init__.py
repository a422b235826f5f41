"""Shapes of defects, where nobody drew them."""
