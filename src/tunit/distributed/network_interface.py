"""The network interface over which the processes that train together reach each other."""

import os
import socket
import struct

_SIOCGIFADDR = 0x8915  # of ioctl, from Linux's sockios.h


def choose_interface() -> None:
    """Let gloo use the network interface that reaches the first machine; the host's own name may not resolve."""
    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    import fcntl  # not at the top: Windows has none

    try:
        address = (os.environ.get("MASTER_ADDR", "localhost"), int(os.environ.get("MASTER_PORT", "1")))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            own = probe.getsockname()[0]
            for _, name in socket.if_nameindex():
                request = struct.pack("256s", name.encode()[:15])
                try:
                    found = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
                except OSError:  # this interface has no IPv4 address
                    continue
                if socket.inet_ntoa(found[20:24]) == own or (own.startswith("127.") and name == "lo"):
                    os.environ["GLOO_SOCKET_IFNAME"] = name
                    return
    except (OSError, ValueError, OverflowError):  # an impossible port is reported when the processes meet
        pass  # gloo chooses
