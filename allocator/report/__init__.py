"""
The report: claims, the evidence that decides them, and the page that says so.

It reads what was recorded, never a queue: experiments leave runs and measures in the folder of a report (`artefacts`),
and everything on the page follows from that folder.
"""
