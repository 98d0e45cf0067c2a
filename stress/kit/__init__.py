"""What scenarios and benchmarks share: servers, clients, load generators, meters, reports."""
