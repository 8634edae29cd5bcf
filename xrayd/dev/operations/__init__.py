"""The operations of the X-Ray API, by subject: one function each, given a validated request."""
