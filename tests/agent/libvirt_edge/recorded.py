"""What libvirt 9.0 gave for real domains, and what it is turned into."""

from __future__ import annotations

ACTIVE_XML = """\
<domain type='qemu' id='1'>
  <name>d0</name>
  <uuid>280e0e43-6118-479e-83eb-d12cf7351f69</uuid>
  <memory unit='KiB'>16384</memory>
  <currentMemory unit='KiB'>16384</currentMemory>
  <vcpu placement='static'>1</vcpu>
  <resource>
    <partition>/machine</partition>
  </resource>
  <os>
    <type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features>
    <acpi/>
  </features>
  <clock offset='variable' adjustment='3600' basis='utc'/>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/images/d0.raw' index='1'/>
      <backingStore/>
      <target dev='vda' bus='virtio'/>
      <serial>disk-d0</serial>
      <alias name='virtio-disk0'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/>
    </disk>
    <disk type='file' device='cdrom'>
      <source file='/images/install.iso' index='2'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>
    <interface type='bridge'>
      <mac address='52:54:00:c9:a7:5d'/>
      <source bridge='lab0'/>
      <target dev='vnet0'/>
      <model type='virtio'/>
      <alias name='net0'/>
    </interface>
    <console type='pty' tty='/dev/pts/3'>
      <source path='/dev/pts/3'/>
      <target type='serial' port='0'/>
      <alias name='serial0'/>
    </console>
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-1-d0/org.qemu.guest_agent.0'/>
      <target type='virtio' name='org.qemu.guest_agent.0' state='connected'/>
      <alias name='channel0'/>
    </channel>
    <graphics type='vnc' port='5900' autoport='yes' listen='127.0.0.1' passwd='secret'>
      <listen type='address' address='127.0.0.1'/>
    </graphics>
    <memballoon model='virtio'>
      <stats period='2'/>
      <alias name='balloon0'/>
    </memballoon>
  </devices>
  <seclabel type='dynamic' model='dac' relabel='yes'>
    <label>+0:+0</label>
    <imagelabel>+0:+0</imagelabel>
  </seclabel>
</domain>
"""

INACTIVE_XML = """\
<domain type='qemu'>
  <name>d0</name>
  <uuid>280e0e43-6118-479e-83eb-d12cf7351f69</uuid>
  <memory unit='KiB'>16384</memory>
  <currentMemory unit='KiB'>8192</currentMemory>
  <vcpu placement='static'>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features>
    <acpi/>
  </features>
  <clock offset='variable' adjustment='0' basis='utc'/>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/images/d0.raw'/>
      <target dev='vda' bus='virtio'/>
      <serial>disk-d0</serial>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/>
    </disk>
    <disk type='file' device='cdrom'>
      <source file='/images/install.iso'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>
    <interface type='bridge'>
      <mac address='52:54:00:c9:a7:5d'/>
      <source bridge='lab0'/>
      <model type='virtio'/>
    </interface>
    <console type='pty'>
      <target type='serial' port='0'/>
    </console>
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'>
      <listen type='address' address='127.0.0.1'/>
    </graphics>
    <memballoon model='virtio'>
      <stats period='2'/>
    </memballoon>
  </devices>
</domain>
"""

RUNNING = {
    "state.state": 1,
    "state.reason": 1,
    "cpu.time": 380000000,
    "cpu.user": 210000000,
    "cpu.system": 170000000,
    "cpu.cache.monitor.count": 0,
    "cpu.haltpoll.success.time": 0,
    "cpu.haltpoll.fail.time": 0,
    "balloon.current": 16384,
    "balloon.maximum": 16384,
    "balloon.last-update": 0,
    "balloon.rss": 44204,
}
"""A running domain whose guest has no balloon driver."""

HUNG = {
    "state.state": 1,
    "state.reason": 1,
    "cpu.time": 380000000,
    "cpu.user": 210000000,
    "cpu.system": 170000000,
    "cpu.cache.monitor.count": 0,
    "balloon.current": 16384,
    "balloon.maximum": 16384,
}
"""The same with its QEMU stopped, from a NOWAIT call while another one was stuck in its monitor."""

DEVICES = {
    "balloon.current": 16384,
    "balloon.maximum": 32768,
    "balloon.last-update": 0,
    "balloon.rss": 46936,
    "net.count": 1,
    "net.0.name": "vnet0",
    "net.0.rx.bytes": 86,
    "net.0.rx.pkts": 1,
    "net.0.rx.errs": 0,
    "net.0.rx.drop": 2,
    "net.0.tx.bytes": 10,
    "net.0.tx.pkts": 1,
    "net.0.tx.errs": 0,
    "net.0.tx.drop": 0,
    "block.count": 1,
    "block.0.name": "vda",
    "block.0.path": "/images/d0.raw",
    "block.0.backingIndex": 1,
    "block.0.rd.reqs": 1,
    "block.0.rd.bytes": 512,
    "block.0.rd.times": 94322,
    "block.0.wr.reqs": 0,
    "block.0.wr.bytes": 0,
    "block.0.wr.times": 0,
    "block.0.fl.reqs": 0,
    "block.0.fl.times": 0,
    "block.0.allocation": 4096,
    "block.0.capacity": 1048576,
    "block.0.physical": 200704,
}

GUEST_INFO = {
    "user.count": 2,
    "user.0.name": "root",
    "user.0.login-time": 1700000000000,
    "user.1.name": "Anna",
    "user.1.domain": "EXAMPLE",
    "hostname": "guest",
    "fs.count": 1,
    "fs.0.name": "vda1",
    "fs.0.mountpoint": "/",
    "fs.0.fstype": "ext4",
    "fs.0.total-bytes": 1000,
    "fs.0.used-bytes": 400,
    "if.count": 2,
    "if.0.name": "lo",
    "if.0.addr.count": 1,
    "if.0.addr.0.type": "ipv4",
    "if.0.addr.0.addr": "127.0.0.1",
    "if.0.addr.0.prefix": 8,
    "if.1.name": "eth0",
    "if.1.hwaddr": "52:54:00:c9:a7:5d",
    "if.1.addr.count": 2,
    "if.1.addr.0.type": "ipv6",
    "if.1.addr.0.addr": "fe80::1%eth0",
    "if.1.addr.0.prefix": 64,
    "if.1.addr.1.type": "ipv4",
    "if.1.addr.1.addr": "192.0.2.5",
    "if.1.addr.1.prefix": 24,
}

MEMINFO = """\
MemTotal:       24684324 kB
MemFree:        20000000 kB
MemAvailable:   23000064 kB
SwapTotal:       2097152 kB
SwapFree:        1048576 kB
HugePages_Total:       0
"""
