"""A line between two network namespaces, of some speed and length, in user space: kernels often have no netem.

usage: network_line.py NAMESPACE ADDRESS NAMESPACE ADDRESS BITS_A_SECOND SECONDS

Each namespace gets a device "line". A packet leaves once those before it have, at the speed of the line, and arrives so many
seconds later. Both directions are lines of their own. It prints "ready" and ends with its standard input.
"""

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# Large packets: a process in user space has no time for many.
MTU = 65000


def end_of_line(namespace, address):
    """Makes the device in a namespace; returns what its packets are read from and written to."""
    with open(f"/var/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", b"line", IFF_TUN | IFF_NO_PI))
    for words in (f"addr add {address}/24 dev line", f"link set line mtu {MTU} txqueuelen 10000 up", "link set lo up"):
        subprocess.run(["ip", *words.split()], check=True)
    return device


def main(first, first_address, second, second_address, bits, seconds):
    speed, length = float(bits) / 8, float(seconds)
    ends = [end_of_line(first, first_address), end_of_line(second, second_address)]
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    under_way = {end: deque() for end in ends}
    free_at = {end: 0.0 for end in ends}
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        due = [queue[0][0] for queue in under_way.values() if queue]
        wait = max(0.0, min(due) - now) if due else 1.0
        readable, _, _ = select.select([*ends, sys.stdin], [], [], wait)
        if sys.stdin in readable:
            return
        now = time.monotonic()
        for end in ends:
            while end in readable:
                try:
                    packet = os.read(end, MTU + 100)
                except BlockingIOError:
                    break
                free_at[end] = max(now, free_at[end]) + len(packet) / speed
                under_way[end].append((free_at[end] + length, packet))
            queue = under_way[end]
            while queue and queue[0][0] <= now:
                os.write(other[end], queue.popleft()[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
