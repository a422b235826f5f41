"""From annotated images to the data that both models train on."""
