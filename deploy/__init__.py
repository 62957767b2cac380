"""How Colonnade is put on machines: the one-machine stack (local) and Kubernetes (k8s)."""
