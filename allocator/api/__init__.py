"""
The HTTP API: files in, what became of them, and back again.

`allocator.api.app.create_app` makes it, `allocator.api.serving.serve` runs it. Nothing is imported here: worker
processes come by on their way to `allocator.api.processing`, and need no web framework.
"""
