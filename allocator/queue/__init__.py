"""The queue contract and its backends. `open_queue(url)` chooses one; `Queue` is the contract in words."""
