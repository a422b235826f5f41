"""Clean image to painted image: jobs, contexts, the sampler in batches, files."""
