"""To test a TCP stack, and what runs on it, packet by packet and in virtual time.

`Stack` is the stack itself: frames in, frames out, events out. `Host` puts it on a scripted link with a clock, and
`Scenario` is one TCP connection as a script (see `scenario`; `states` has one in each state to begin with, `fixtures`
the same for pytest). `packets` and `segments` build and take apart what goes over the link, independently of the stack.

`Network` is a simulated network of several stacks, whose cables lose, double, reorder, corrupt and delay packets as a
`Profile` says; `applications` has what runs on the connections. `Network.serve` puts a server with a handler class on
it (see `server`). `python -m usnet_framework.testing.simulate` runs random networks, one from each seed.

`Device` is a packet device with its verbs, by hand: ours, one around another (capture, faults), or anybody's.
`conformance` has the tests that every device has to pass.
"""

from usnet_framework._native_device import Device, Pool
from usnet_framework._native_stack import Link, OutputFrame, Stack, StackEvent, TcpInfo
from usnet_framework.testing.host import Host, ScenarioFailed
from usnet_framework.testing.links import Clock, Profile
from usnet_framework.testing.network import Application, Network, Node, Socket
from usnet_framework.testing.scenario import Scenario
from usnet_framework.testing.server import Server
from usnet_framework.testing.stations import SimulationFailed

__all__ = [
    "Application", "Clock", "Device", "Host", "Link", "Network", "Node", "OutputFrame", "Pool", "Profile", "Scenario",
    "ScenarioFailed", "Server", "SimulationFailed", "Socket", "Stack", "StackEvent", "TcpInfo",
]  # fmt: skip
