"""Names of the files that stages leave for others to read; imports nothing."""

FEATURES = "features.safetensors"
PROBABILITIES = "probabilities.safetensors"
METRICS = "metrics.json"
CLASSES = "classes.csv"
COPIES = "copies.csv"
PICTURE = "samples.png"
