"""What a run will take before it is started: parameters, memory, FLOPs, hours, disk and money, on a simulated GPU."""
