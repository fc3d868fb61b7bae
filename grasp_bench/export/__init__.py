"""Fine-tuned weights as folders that load elsewhere."""
