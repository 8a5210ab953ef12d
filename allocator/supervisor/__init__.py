"""Workers that try the jobs of a queue, and never lose one."""

from allocator.supervisor.events import Events
from allocator.supervisor.processors import Context, GiveUp
from allocator.supervisor.reconciler import Retention
from allocator.supervisor.supervisor import Supervisor

__all__ = ["Context", "Events", "GiveUp", "Retention", "Supervisor"]
