"""One watcher a followed run for all who follow it: pages and REST read from here what is new."""
