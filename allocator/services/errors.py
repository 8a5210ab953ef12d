"""What can go wrong when a server is looked for, started or harmed."""


class ServiceUnavailable(RuntimeError):
    """No server was found or none would start; says what was tried and which commands would help."""


class PortTaken(ServiceUnavailable):
    """The server could not listen on its port because something else does."""


class NotOurServer(RuntimeError):
    """A server given by URL was to be started or harmed. Only servers that this package started may be."""
