"""Other people's detectors, installed beside ours for comparison: never part of the product, never in its process."""
