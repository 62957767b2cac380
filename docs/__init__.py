"""Documents that are generated, and the decisions behind what is not."""
