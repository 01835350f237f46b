"""What a training reports, handed on to W&B, TensorBoard, trackio and MLflow from here: no token is on a pod, and no run waits for it."""
