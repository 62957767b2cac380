"""One script a claim: each prints its figure, the goal, and the ratio against a peer or limit of the same run."""
