"""Boxes and shapes of defects; shapes also where nobody drew them."""
