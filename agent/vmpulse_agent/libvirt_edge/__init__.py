"""The libvirt edge: the hypervisor port on a real host. The only package that imports libvirt.

Connections. libvirtd serves at most 5 requests of one connection at a time (``max_client_requests``) and reads nothing
more of a connection that has reached that, keepalive included; and a call may wait for one that hangs on the same
connection (see handles.Askers). So what may hang in a monitor has a connection of its own:

| connection  | access     | lanes (threads)          | calls                                                  |
|-------------|------------|--------------------------|--------------------------------------------------------|
| watch       | read-only  | state (1)                | getAllDomainStats of STATE, controlInfo, events        |
| askers, 12  | read-only  | look (2), probe (6),     | getAllDomainStats, domainListGetStats;                 |
|             |            | device (2), job (2)      | jobStats, diskErrors                                   |
| detail      | read-only  | read (1)                 | XMLDesc, state, getCapabilities, getVersion,           |
|             |            |                          | getLibVersion                                          |
| guests, 6   | read-write | guest (6)                | guestInfo, interfaceAddresses(AGENT), qemuAgentCommand |

libvirt refuses guest agent calls on read-only connections ("operation forbidden: read only access prevents ..."). The
guests' connections are not opened when the setting says so; where the daemon does not permit it, what only the guest
knows is absent and everything else works. Nothing here changes a domain (promise A7); in particular XMLDesc is never
called with VIR_DOMAIN_XML_SECURE, and the agent's response timeout, which would be kept in the domain, is not touched.

Hanging domains. A bulk call with NOWAIT passes over domains whose monitor is busy, yet the call that meets a hung
monitor *first* blocks until it recovers (libvirt 9.0, QEMU stopped by SIGSTOP: the first call hung, the next returned
in 2 ms with only the static values of that domain). What follows from that is written in surveys. Each call that is
stuck holds one of libvirtd's workers (``max_workers``, 20) too; those of all these lanes together hold
12 at the worst, and guest agents (see guest_pace) 6. A question about one domain's job is not put to a domain that
is silent, nor while another one's has been late for long (see questions).
"""

from vmpulse_agent.libvirt_edge.hypervisor import LibvirtHypervisor
from vmpulse_agent.libvirt_edge.options import LibvirtOptions

__all__ = ["LibvirtHypervisor", "LibvirtOptions"]
