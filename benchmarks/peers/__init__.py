"""The peers: each file here but `exchange` runs in the environment of benchmarks/peers.txt, as a process of its own."""
