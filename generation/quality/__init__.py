"""How good a painted defect is: plain checks, and a judge's answer."""
