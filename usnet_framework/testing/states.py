"""Connections in each state of RFC 9293, for a scenario to begin with.

Every function takes a host and returns a `Scenario` that has come to its state by the exchange that its name says, all
of it expected. Where the state follows the end of our output, the application has called `shutdown`, so that it still
holds the connection and can look at it; `how="close"` lets go of it instead.
"""

from __future__ import annotations

from operator import methodcaller
from typing import Any

from usnet_framework.testing.host import Host, ScenarioFailed
from usnet_framework.testing.scenario import Scenario

__tracebackhide__ = methodcaller("errisinstance", ScenarioFailed)

SYN = "S 0:0(0) win 65535 <mss 1460,sackOK,wscale 7>"
SYN_ACK = "S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,wscale 7>"
SYN_WITH_TIMESTAMPS = "S 0:0(0) win 65535 <mss 1460,sackOK,ts 0 ecr 0,wscale 7>"
PLAIN_SYN = "S 0:0(0) win 65535 <mss 1460>"
"""Neither window scaling nor SACK nor timestamps."""


def listening(host: Host, **scenario: Any) -> Scenario:
    """Somebody listens on port 80; the peer has sent nothing."""
    if not host.listeners:
        host.listen(80)
    return Scenario(host, **scenario)


def syn_received(host: Host, syn: str = SYN, **scenario: Any) -> Scenario:
    """SYN in, SYN-ACK out."""
    conversation = listening(host, **scenario)
    conversation.send(syn)
    conversation.expect("S. 0:0(0) ack 1")
    return conversation


def established(host: Host, syn: str = SYN, *, win: int | None = None, rtt: float = 0.0, **scenario: Any) -> Scenario:
    """The peer has opened the connection, and the application has accepted it. win: the peer's window after the
    handshake, as it stands in the header; that of the SYN unless given. rtt: how long the handshake took."""
    conversation = syn_received(host, syn, **scenario)
    conversation.advance(rtt)
    conversation.send(". 1:1(0) ack 1" if win is None else f". 1:1(0) ack 1 win {win}")
    conversation.accept()
    conversation.events()
    return conversation


def syn_sent(host: Host, **scenario: Any) -> Scenario:
    """The application has called connect: SYN out."""
    conversation = Scenario(host, **{"local_port": 50000, **scenario})
    conversation.connect()
    conversation.expect("S 0:0(0)")
    return conversation


def established_client(host: Host, syn_ack: str = SYN_ACK, **scenario: Any) -> Scenario:
    """The application has opened the connection."""
    conversation = syn_sent(host, **scenario)
    conversation.send(syn_ack)
    conversation.expect(". 1:1(0) ack 1")
    conversation.events()
    return conversation


def fin_wait_1(host: Host, how: str = "shutdown", **scenario: Any) -> Scenario:
    """Our FIN is out and not acknowledged."""
    conversation = established(host, **scenario)
    getattr(conversation, how)()
    conversation.expect("F. 1:1(0) ack 1")
    return conversation


def fin_wait_2(host: Host, how: str = "shutdown", **scenario: Any) -> Scenario:
    """Our FIN is acknowledged; the peer may still send."""
    conversation = fin_wait_1(host, how, **scenario)
    conversation.send(". 1:1(0) ack 2")
    return conversation


def closing(host: Host, how: str = "shutdown", **scenario: Any) -> Scenario:
    """Both FINs are out, and ours is not acknowledged."""
    conversation = fin_wait_1(host, how, **scenario)
    conversation.send("F. 1:1(0) ack 1")
    conversation.expect(". 2:2(0) ack 2")
    conversation.events()
    return conversation


def time_wait(host: Host, how: str = "shutdown", **scenario: Any) -> Scenario:
    """Both sides are done, and we were first."""
    conversation = fin_wait_2(host, how, **scenario)
    conversation.send("F. 1:1(0) ack 2")
    conversation.expect(". 2:2(0) ack 2")
    conversation.events()
    return conversation


def close_wait(host: Host, **scenario: Any) -> Scenario:
    """The peer's FIN is in and acknowledged; the application may still write."""
    conversation = established(host, **scenario)
    conversation.send("F. 1:1(0) ack 1")
    conversation.expect(". 1:1(0) ack 2", within=0.5)
    conversation.events()
    return conversation


def last_ack(host: Host, how: str = "shutdown", **scenario: Any) -> Scenario:
    """The peer was first; our FIN is out and not acknowledged."""
    conversation = close_wait(host, **scenario)
    getattr(conversation, how)()
    conversation.expect("F. 1:1(0) ack 2")
    return conversation
