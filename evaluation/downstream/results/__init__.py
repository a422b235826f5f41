"""Results of an experiment as tables and figure, from its rows alone."""
