"""Small networks that name defects, and judges made of them."""
