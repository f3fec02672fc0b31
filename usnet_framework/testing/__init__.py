"""To test a TCP stack, and what runs on it, packet by packet and in virtual time.

`Stack` is the stack itself: frames in, frames out, events out. `Host` puts it on a scripted link with a clock, and
`Scenario` is one TCP connection as a script (see `scenario`; `states` has one in each state to begin with, `fixtures`
the same for pytest). `packets` and `segments` build and take apart what goes over the link, independently of the stack.
"""

from usnet_framework._native_stack import Link, OutputFrame, Stack, StackEvent, TcpInfo
from usnet_framework.testing.host import Host, ScenarioFailed
from usnet_framework.testing.scenario import Scenario

__all__ = ["Host", "Link", "OutputFrame", "Scenario", "ScenarioFailed", "Stack", "StackEvent", "TcpInfo"]
