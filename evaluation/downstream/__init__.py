"""Does a detector that also trains on painted defects get better? The whole experiment, stage by stage."""
