"""Synthetic photographs of printed circuit boards, with the six classic defects."""
