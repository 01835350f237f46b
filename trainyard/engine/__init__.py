"""The built-in engine: runs a Pulumi program and drives provider plugins; knows nothing of training."""
