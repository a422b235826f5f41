"""The mathematics: U-Net, Gaussian diffusion, attention masks, refinement, sampling and training."""
