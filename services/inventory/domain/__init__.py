"""The rules of the inventory, split by concept: asset, graph, gaps, findings of discovery, bills of materials."""
