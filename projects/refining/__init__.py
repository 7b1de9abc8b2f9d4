"""What every refiner shares: coarse predictions, truths, and refinement as a function."""
