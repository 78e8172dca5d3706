"""`veil dev`: a whole cluster on one machine, of real parts: anvil, the registry, a ceremony, nodes, a containerd each."""
