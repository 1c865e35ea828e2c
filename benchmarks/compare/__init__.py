"""The same question, asked of aioconc and of its peers: one folder a question, one file a peer."""
