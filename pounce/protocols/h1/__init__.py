"""HTTP/1.1 and 1.0 (RFC 9112): a reader of requests and a writer of responses, without I/O."""
