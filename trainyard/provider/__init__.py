"""Our Pulumi provider: the resources Lease, Pod, Endpoint, Bucket, BucketLifecycle and SshKey."""
