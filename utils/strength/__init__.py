"""How strong an edit should be: the contrast of defects in training patches, and what follows from it."""
