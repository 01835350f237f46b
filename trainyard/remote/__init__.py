"""One primitive to reach a pod, exec(command, stdin), and what is built on it: transfer and jobs."""
