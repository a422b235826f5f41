"""From contexts to painted images: batches for the sampler, what of a window is the defect, and the image around it."""
