"""Training data of the foundation prior: synthetic surfaces and boards with defects and their boxes."""
