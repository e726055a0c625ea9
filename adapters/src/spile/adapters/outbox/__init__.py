"""A table of events beside the application's own, and the relay that publishes them."""
