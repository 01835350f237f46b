"""One file a migration; each is final once it has been in a release."""
