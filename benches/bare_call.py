"""The least that a look can cost: the same libvirt call and nothing else, once for each line of standard input."""

import sys
from time import perf_counter

import libvirt

GROUPS = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL | libvirt.VIR_DOMAIN_STATS_BALLOON
FLAGS = (
    libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
    | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE
    | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
)

if __name__ == "__main__":
    connection = libvirt.openReadOnly(sys.argv[1])
    for _ in sys.stdin:
        began = perf_counter()
        connection.getAllDomainStats(GROUPS, FLAGS)
        print(perf_counter() - began, flush=True)
