"""Everything that touches a network: receiver, uploader, X-Ray client, TCP listener."""
