//! Hosts in network namespaces running the real thing: tests, demo and benchmarks share it.
