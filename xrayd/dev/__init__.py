"""The embedded X-Ray endpoint: documents in, traces, summaries and service graphs out."""
