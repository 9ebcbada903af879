"""Links: sessions over carriers, driven by the event loop."""

from fusion_cluster.link.acceptor import AcceptorLimits, ServedSession, SessionAcceptor, SessionHandler
from fusion_cluster.link.carrier import Carrier
from fusion_cluster.link.memory import MemoryCarrier, memory_pair
from fusion_cluster.link.peer import Peer
from fusion_cluster.link.peer_call import PeerCall
from fusion_cluster.link.tcp import TcpListener, dial_tcp, listen_tcp

__all__ = [
    "AcceptorLimits",
    "Carrier",
    "MemoryCarrier",
    "Peer",
    "PeerCall",
    "ServedSession",
    "SessionAcceptor",
    "SessionHandler",
    "TcpListener",
    "dial_tcp",
    "listen_tcp",
    "memory_pair",
]
