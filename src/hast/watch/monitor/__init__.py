"""hast-monitor(8): one process without rights that asks hastd how both nodes are, and serves that over HTTP."""
