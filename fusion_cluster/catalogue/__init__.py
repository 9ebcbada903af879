"""What a service and its methods are: definitions, signatures, options, injection."""
