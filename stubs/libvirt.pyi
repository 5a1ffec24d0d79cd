"""The part of libvirt-python that vmpulse uses, typed; libvirt itself ships no types.

Constants are typed without values: those come from the libvirt that is installed.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

_Error: TypeAlias = tuple[int, int, str, int, str | None, str | None, str | None, int, int]

class libvirtError(Exception):
    err: _Error | None
    def __init__(self, defmsg: str) -> None: ...
    def get_error_code(self) -> int | None: ...
    def get_error_domain(self) -> int | None: ...
    def get_error_message(self) -> str | None: ...
    def get_error_level(self) -> int | None: ...
    def get_str1(self) -> str | None: ...
    def get_str2(self) -> str | None: ...
    def get_str3(self) -> str | None: ...
    def get_int1(self) -> int | None: ...
    def get_int2(self) -> int | None: ...

def open(name: str | None = None) -> virConnect: ...
def openReadOnly(name: str | None = None) -> virConnect: ...
def openAuth(uri: str | None, auth: list[Any], flags: int = 0) -> virConnect: ...
def getVersion(name: str | None = None) -> int: ...
def registerErrorHandler(f: Callable[[Any, _Error], None] | None, ctx: Any) -> int: ...
def virEventRegisterDefaultImpl() -> None: ...
def virEventRunDefaultImpl() -> None: ...
def virEventAddTimeout(timeout: int, cb: Callable[[int, Any], None], opaque: Any) -> int: ...
def virEventUpdateTimeout(timer: int, timeout: int) -> None: ...
def virEventRemoveTimeout(timer: int) -> int: ...
def virEventAddHandle(fd: int, events: int, cb: Callable[[int, int, int, Any], None], opaque: Any) -> int: ...
def virEventUpdateHandle(watch: int, events: int) -> None: ...
def virEventRemoveHandle(watch: int) -> int: ...

class virConnect:
    def baselineCPU(self, xmlCPUs: list[str], flags: int = 0) -> str: ...
    def close(self) -> int: ...
    def createXML(self, xmlDesc: str, flags: int = 0) -> virDomain: ...
    def defineXML(self, xml: str) -> virDomain: ...
    def defineXMLFlags(self, xml: str, flags: int = 0) -> virDomain: ...
    def domainEventDeregisterAny(self, callbackID: int) -> None: ...
    def domainEventRegisterAny(
        self, dom: virDomain | None, eventID: int, cb: Callable[..., None], opaque: Any
    ) -> int: ...
    def domainListGetStats(
        self, doms: Sequence[virDomain], stats: int = 0, flags: int = 0
    ) -> list[tuple[virDomain, dict[str, Any]]]: ...
    def getAllDomainStats(self, stats: int = 0, flags: int = 0) -> list[tuple[virDomain, dict[str, Any]]]: ...
    def getCPUMap(self, flags: int = 0) -> tuple[int, list[bool], int]: ...
    def getCPUStats(self, cpuNum: int, flags: int = 0) -> dict[str, int]: ...
    def domainXMLFromNative(self, nativeFormat: str, nativeConfig: str, flags: int = 0) -> str: ...
    def getCapabilities(self) -> str: ...
    def getDomainCapabilities(
        self,
        emulatorbin: str | None = None,
        arch: str | None = None,
        machine: str | None = None,
        virttype: str | None = None,
        flags: int = 0,
    ) -> str: ...
    def getFreeMemory(self) -> int: ...
    def getHostname(self) -> str: ...
    def getInfo(self) -> list[Any]: ...
    def getLibVersion(self) -> int: ...
    def getMemoryStats(self, cellNum: int, flags: int = 0) -> dict[str, int]: ...
    def getSysinfo(self, flags: int = 0) -> str: ...
    def getType(self) -> str: ...
    def getURI(self) -> str: ...
    def getVersion(self) -> int: ...
    def isAlive(self) -> int: ...
    def isEncrypted(self) -> int: ...
    def isSecure(self) -> int: ...
    def listAllDomains(self, flags: int = 0) -> list[virDomain]: ...
    def listDefinedDomains(self) -> list[str]: ...
    def listDomainsID(self) -> list[int]: ...
    def lookupByID(self, id: int) -> virDomain: ...
    def newStream(self, flags: int = 0) -> virStream: ...
    def lookupByName(self, name: str) -> virDomain: ...
    def lookupByUUID(self, uuid: bytes) -> virDomain: ...
    def lookupByUUIDString(self, uuidstr: str) -> virDomain: ...
    def numOfDefinedDomains(self) -> int: ...
    def numOfDomains(self) -> int: ...
    def registerCloseCallback(self, cb: Callable[[virConnect, int, Any], None], opaque: Any) -> int: ...
    def restore(self, frm: str) -> int: ...
    def setKeepAlive(self, interval: int, count: int) -> int: ...
    def unregisterCloseCallback(self) -> int: ...

class virStream:
    def abort(self) -> int: ...

class virDomain:
    def ID(self) -> int: ...
    def OSType(self) -> str: ...
    def UUID(self) -> bytes: ...
    def UUIDString(self) -> str: ...
    def XMLDesc(self, flags: int = 0) -> str: ...
    def abortJob(self) -> int: ...
    def abortJobFlags(self, flags: int = 0) -> int: ...
    def attachDevice(self, xml: str) -> int: ...
    def attachDeviceFlags(self, xml: str, flags: int = 0) -> int: ...
    def autostart(self) -> int: ...
    def blockCommit(self, disk: str, base: str | None, top: str | None, bandwidth: int = 0, flags: int = 0) -> int: ...
    def blockCopy(self, disk: str, destxml: str, params: dict[str, Any] | None = None, flags: int = 0) -> int: ...
    def blockInfo(self, path: str, flags: int = 0) -> list[int]: ...
    def blockJobAbort(self, disk: str, flags: int = 0) -> int: ...
    def blockStats(self, path: str) -> tuple[int, int, int, int, int]: ...
    def blockStatsFlags(self, path: str, flags: int = 0) -> dict[str, int]: ...
    def connect(self) -> virConnect: ...
    def controlInfo(self, flags: int = 0) -> list[int]: ...
    def coreDump(self, to: str, flags: int = ...) -> int: ...
    def create(self) -> int: ...
    def createWithFlags(self, flags: int = 0) -> int: ...
    def destroy(self) -> int: ...
    def destroyFlags(self, flags: int = 0) -> int: ...
    def detachDevice(self, xml: str) -> int: ...
    def detachDeviceFlags(self, xml: str, flags: int = 0) -> int: ...
    def diskErrors(self, flags: int = 0) -> dict[str, int]: ...
    def fsInfo(self, flags: int = 0) -> list[tuple[str, str, str, list[str]]]: ...
    def getCPUStats(self, total: bool, flags: int = 0) -> list[dict[str, int]]: ...
    def getTime(self, flags: int = 0) -> dict[str, int]: ...
    def guestInfo(self, types: int = 0, flags: int = 0) -> dict[str, Any]: ...
    def guestVcpus(self, flags: int = 0) -> dict[str, Any]: ...
    def hasManagedSaveImage(self, flags: int = 0) -> int: ...
    def hostname(self, flags: int = 0) -> str: ...
    def info(self) -> list[int]: ...
    def injectNMI(self, flags: int = 0) -> int: ...
    def interfaceAddresses(self, source: int, flags: int = 0) -> dict[str, dict[str, Any]]: ...
    def interfaceStats(self, device: str) -> tuple[int, int, int, int, int, int, int, int]: ...
    def isActive(self) -> int: ...
    def isPersistent(self) -> int: ...
    def isUpdated(self) -> int: ...
    def jobInfo(self) -> list[int]: ...
    def jobStats(self, flags: int = 0) -> dict[str, Any]: ...
    def managedSave(self, flags: int = 0) -> int: ...
    def managedSaveRemove(self, flags: int = 0) -> int: ...
    def maxMemory(self) -> int: ...
    def maxVcpus(self) -> int: ...
    def memoryStats(self) -> dict[str, int]: ...
    def metadata(self, type: int, uri: str | None, flags: int = 0) -> str: ...
    def migrate3(self, dconn: virConnect, params: dict[str, Any], flags: int = 0) -> virDomain: ...
    def openConsole(self, dev_name: str | None, st: virStream, flags: int = 0) -> int: ...
    def migrateSetMaxDowntime(self, downtime: int, flags: int = 0) -> int: ...
    def migrateSetMaxSpeed(self, bandwidth: int, flags: int = 0) -> int: ...
    def migrateStartPostCopy(self, flags: int = 0) -> int: ...
    def migrateToURI3(self, dconnuri: str | None, params: dict[str, Any], flags: int = 0) -> int: ...
    def name(self) -> str: ...
    def reboot(self, flags: int = 0) -> int: ...
    def pMWakeup(self, flags: int = ...) -> int: ...
    def reset(self, flags: int = 0) -> int: ...
    def resume(self) -> int: ...
    def save(self, to: str) -> int: ...
    def setAutostart(self, autostart: int) -> int: ...
    def setMemory(self, memory: int) -> int: ...
    def setMemoryFlags(self, memory: int, flags: int = 0) -> int: ...
    def setMemoryStatsPeriod(self, period: int, flags: int = 0) -> int: ...
    def setMetadata(self, type: int, metadata: str | None, key: str | None, uri: str | None, flags: int = 0) -> int: ...
    def setTime(self, time: dict[str, int] | None, flags: int = 0) -> int: ...
    def setVcpusFlags(self, nvcpus: int, flags: int = 0) -> int: ...
    def shutdown(self) -> int: ...
    def shutdownFlags(self, flags: int = 0) -> int: ...
    def snapshotCreateXML(self, xmlDesc: str, flags: int = 0) -> object: ...
    def state(self, flags: int = 0) -> list[int]: ...
    def suspend(self) -> int: ...
    def undefine(self) -> int: ...
    def undefineFlags(self, flags: int = 0) -> int: ...
    def updateDeviceFlags(self, xml: str, flags: int = 0) -> int: ...
    def vcpus(self) -> tuple[list[tuple[int, int, int, int]], list[tuple[bool, ...]]]: ...
    def vcpusFlags(self, flags: int = 0) -> int: ...

VIR_CONNECT_CLOSE_REASON_CLIENT: Final[int]
VIR_CONNECT_CLOSE_REASON_EOF: Final[int]
VIR_CONNECT_CLOSE_REASON_ERROR: Final[int]
VIR_CONNECT_CLOSE_REASON_KEEPALIVE: Final[int]
VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_CHANNEL: Final[int]
VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_DOMAIN_STARTED: Final[int]
VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_UNKNOWN: Final[int]
VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED: Final[int]
VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_DISCONNECTED: Final[int]
VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE: Final[int]
VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING: Final[int]
VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS: Final[int]
VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE: Final[int]
VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT: Final[int]
VIR_CONNECT_GET_ALL_DOMAINS_STATS_OTHER: Final[int]
VIR_CONNECT_GET_ALL_DOMAINS_STATS_PAUSED: Final[int]
VIR_CONNECT_GET_ALL_DOMAINS_STATS_PERSISTENT: Final[int]
VIR_CONNECT_GET_ALL_DOMAINS_STATS_RUNNING: Final[int]
VIR_CONNECT_GET_ALL_DOMAINS_STATS_SHUTOFF: Final[int]
VIR_CONNECT_GET_ALL_DOMAINS_STATS_TRANSIENT: Final[int]
VIR_CONNECT_LIST_DOMAINS_ACTIVE: Final[int]
VIR_CONNECT_LIST_DOMAINS_AUTOSTART: Final[int]
VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT: Final[int]
VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT: Final[int]
VIR_CONNECT_LIST_DOMAINS_INACTIVE: Final[int]
VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE: Final[int]
VIR_CONNECT_LIST_DOMAINS_NO_AUTOSTART: Final[int]
VIR_CONNECT_LIST_DOMAINS_NO_CHECKPOINT: Final[int]
VIR_CONNECT_LIST_DOMAINS_NO_MANAGEDSAVE: Final[int]
VIR_CONNECT_LIST_DOMAINS_NO_SNAPSHOT: Final[int]
VIR_CONNECT_LIST_DOMAINS_OTHER: Final[int]
VIR_CONNECT_LIST_DOMAINS_PAUSED: Final[int]
VIR_CONNECT_LIST_DOMAINS_PERSISTENT: Final[int]
VIR_CONNECT_LIST_DOMAINS_RUNNING: Final[int]
VIR_CONNECT_LIST_DOMAINS_SHUTOFF: Final[int]
VIR_CONNECT_LIST_DOMAINS_TRANSIENT: Final[int]
VIR_CONNECT_NO_ALIASES: Final[int]
VIR_CONNECT_RO: Final[int]
VIR_CRED_AUTHNAME: Final[int]
VIR_CRED_PASSPHRASE: Final[int]
VIR_DOMAIN_ABORT_JOB_POSTCOPY: Final[int]
VIR_DOMAIN_AFFECT_CONFIG: Final[int]
VIR_DOMAIN_AFFECT_CURRENT: Final[int]
VIR_DOMAIN_AFFECT_LIVE: Final[int]
VIR_DOMAIN_BLOCKED: Final[int]
VIR_DOMAIN_BLOCKED_UNKNOWN: Final[int]
VIR_DOMAIN_BLOCK_COMMIT_ACTIVE: Final[int]
VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB: Final[int]
VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT: Final[int]
VIR_DOMAIN_CONSOLE_FORCE: Final[int]
VIR_DOMAIN_CONTROL_ERROR: Final[int]
VIR_DOMAIN_CONTROL_ERROR_REASON_INTERNAL: Final[int]
VIR_DOMAIN_CONTROL_ERROR_REASON_MONITOR: Final[int]
VIR_DOMAIN_CONTROL_ERROR_REASON_NONE: Final[int]
VIR_DOMAIN_CONTROL_ERROR_REASON_UNKNOWN: Final[int]
VIR_DOMAIN_CONTROL_JOB: Final[int]
VIR_DOMAIN_CONTROL_OCCUPIED: Final[int]
VIR_DOMAIN_CONTROL_OK: Final[int]
VIR_DOMAIN_CRASHED: Final[int]
VIR_DOMAIN_CRASHED_PANICKED: Final[int]
VIR_DOMAIN_CRASHED_UNKNOWN: Final[int]
VIR_DOMAIN_DEFINE_VALIDATE: Final[int]
VIR_DOMAIN_DESTROY_DEFAULT: Final[int]
VIR_DOMAIN_DESTROY_GRACEFUL: Final[int]
VIR_DOMAIN_DESTROY_REMOVE_LOGS: Final[int]
VIR_DOMAIN_DEVICE_MODIFY_CONFIG: Final[int]
VIR_DOMAIN_DEVICE_MODIFY_CURRENT: Final[int]
VIR_DOMAIN_DEVICE_MODIFY_FORCE: Final[int]
VIR_DOMAIN_DEVICE_MODIFY_LIVE: Final[int]
VIR_DOMAIN_DISK_ERROR_NONE: Final[int]
VIR_DOMAIN_DISK_ERROR_NO_SPACE: Final[int]
VIR_DOMAIN_DISK_ERROR_UNSPEC: Final[int]
VIR_DOMAIN_EVENT_CRASHED: Final[int]
VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED: Final[int]
VIR_DOMAIN_EVENT_CRASHED_PANICKED: Final[int]
VIR_DOMAIN_EVENT_DEFINED: Final[int]
VIR_DOMAIN_EVENT_DEFINED_ADDED: Final[int]
VIR_DOMAIN_EVENT_DEFINED_FROM_SNAPSHOT: Final[int]
VIR_DOMAIN_EVENT_DEFINED_RENAMED: Final[int]
VIR_DOMAIN_EVENT_DEFINED_UPDATED: Final[int]
VIR_DOMAIN_EVENT_DISK_CHANGE_MISSING_ON_START: Final[int]
VIR_DOMAIN_EVENT_DISK_DROP_MISSING_ON_START: Final[int]
VIR_DOMAIN_EVENT_GRAPHICS_ADDRESS_IPV4: Final[int]
VIR_DOMAIN_EVENT_GRAPHICS_ADDRESS_IPV6: Final[int]
VIR_DOMAIN_EVENT_GRAPHICS_ADDRESS_UNIX: Final[int]
VIR_DOMAIN_EVENT_GRAPHICS_CONNECT: Final[int]
VIR_DOMAIN_EVENT_GRAPHICS_DISCONNECT: Final[int]
VIR_DOMAIN_EVENT_GRAPHICS_INITIALIZE: Final[int]
VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE: Final[int]
VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE: Final[int]
VIR_DOMAIN_EVENT_ID_BLOCK_JOB: Final[int]
VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2: Final[int]
VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD: Final[int]
VIR_DOMAIN_EVENT_ID_CONTROL_ERROR: Final[int]
VIR_DOMAIN_EVENT_ID_DEVICE_ADDED: Final[int]
VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED: Final[int]
VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: Final[int]
VIR_DOMAIN_EVENT_ID_DISK_CHANGE: Final[int]
VIR_DOMAIN_EVENT_ID_GRAPHICS: Final[int]
VIR_DOMAIN_EVENT_ID_IO_ERROR: Final[int]
VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON: Final[int]
VIR_DOMAIN_EVENT_ID_JOB_COMPLETED: Final[int]
VIR_DOMAIN_EVENT_ID_LIFECYCLE: Final[int]
VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE: Final[int]
VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE: Final[int]
VIR_DOMAIN_EVENT_ID_METADATA_CHANGE: Final[int]
VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION: Final[int]
VIR_DOMAIN_EVENT_ID_PMSUSPEND: Final[int]
VIR_DOMAIN_EVENT_ID_PMSUSPEND_DISK: Final[int]
VIR_DOMAIN_EVENT_ID_PMWAKEUP: Final[int]
VIR_DOMAIN_EVENT_ID_REBOOT: Final[int]
VIR_DOMAIN_EVENT_ID_RTC_CHANGE: Final[int]
VIR_DOMAIN_EVENT_ID_TRAY_CHANGE: Final[int]
VIR_DOMAIN_EVENT_ID_TUNABLE: Final[int]
VIR_DOMAIN_EVENT_ID_WATCHDOG: Final[int]
VIR_DOMAIN_EVENT_IO_ERROR_NONE: Final[int]
VIR_DOMAIN_EVENT_IO_ERROR_PAUSE: Final[int]
VIR_DOMAIN_EVENT_IO_ERROR_REPORT: Final[int]
VIR_DOMAIN_EVENT_MEMORY_FAILURE_ACTION_FATAL: Final[int]
VIR_DOMAIN_EVENT_MEMORY_FAILURE_ACTION_IGNORE: Final[int]
VIR_DOMAIN_EVENT_MEMORY_FAILURE_ACTION_INJECT: Final[int]
VIR_DOMAIN_EVENT_MEMORY_FAILURE_ACTION_RESET: Final[int]
VIR_DOMAIN_EVENT_MEMORY_FAILURE_RECIPIENT_GUEST: Final[int]
VIR_DOMAIN_EVENT_MEMORY_FAILURE_RECIPIENT_HYPERVISOR: Final[int]
VIR_DOMAIN_EVENT_PMSUSPENDED: Final[int]
VIR_DOMAIN_EVENT_PMSUSPENDED_DISK: Final[int]
VIR_DOMAIN_EVENT_PMSUSPENDED_MEMORY: Final[int]
VIR_DOMAIN_EVENT_RESUMED: Final[int]
VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT: Final[int]
VIR_DOMAIN_EVENT_RESUMED_MIGRATED: Final[int]
VIR_DOMAIN_EVENT_RESUMED_POSTCOPY: Final[int]
VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED: Final[int]
VIR_DOMAIN_EVENT_RESUMED_UNPAUSED: Final[int]
VIR_DOMAIN_EVENT_SHUTDOWN: Final[int]
VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED: Final[int]
VIR_DOMAIN_EVENT_SHUTDOWN_GUEST: Final[int]
VIR_DOMAIN_EVENT_SHUTDOWN_HOST: Final[int]
VIR_DOMAIN_EVENT_STARTED: Final[int]
VIR_DOMAIN_EVENT_STARTED_BOOTED: Final[int]
VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT: Final[int]
VIR_DOMAIN_EVENT_STARTED_MIGRATED: Final[int]
VIR_DOMAIN_EVENT_STARTED_RESTORED: Final[int]
VIR_DOMAIN_EVENT_STARTED_WAKEUP: Final[int]
VIR_DOMAIN_EVENT_STOPPED: Final[int]
VIR_DOMAIN_EVENT_STOPPED_CRASHED: Final[int]
VIR_DOMAIN_EVENT_STOPPED_DESTROYED: Final[int]
VIR_DOMAIN_EVENT_STOPPED_FAILED: Final[int]
VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: Final[int]
VIR_DOMAIN_EVENT_STOPPED_MIGRATED: Final[int]
VIR_DOMAIN_EVENT_STOPPED_SAVED: Final[int]
VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: Final[int]
VIR_DOMAIN_EVENT_SUSPENDED: Final[int]
VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR: Final[int]
VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT: Final[int]
VIR_DOMAIN_EVENT_SUSPENDED_IOERROR: Final[int]
VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED: Final[int]
VIR_DOMAIN_EVENT_SUSPENDED_PAUSED: Final[int]
VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY: Final[int]
VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED: Final[int]
VIR_DOMAIN_EVENT_SUSPENDED_RESTORED: Final[int]
VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG: Final[int]
VIR_DOMAIN_EVENT_TRAY_CHANGE_CLOSE: Final[int]
VIR_DOMAIN_EVENT_TRAY_CHANGE_OPEN: Final[int]
VIR_DOMAIN_EVENT_UNDEFINED: Final[int]
VIR_DOMAIN_EVENT_UNDEFINED_REMOVED: Final[int]
VIR_DOMAIN_EVENT_UNDEFINED_RENAMED: Final[int]
VIR_DOMAIN_EVENT_WATCHDOG_DEBUG: Final[int]
VIR_DOMAIN_EVENT_WATCHDOG_INJECTNMI: Final[int]
VIR_DOMAIN_EVENT_WATCHDOG_NONE: Final[int]
VIR_DOMAIN_EVENT_WATCHDOG_PAUSE: Final[int]
VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF: Final[int]
VIR_DOMAIN_EVENT_WATCHDOG_RESET: Final[int]
VIR_DOMAIN_EVENT_WATCHDOG_SHUTDOWN: Final[int]
VIR_DOMAIN_GET_HOSTNAME_AGENT: Final[int]
VIR_DOMAIN_GET_HOSTNAME_LEASE: Final[int]
VIR_DOMAIN_GUEST_INFO_DISKS: Final[int]
VIR_DOMAIN_GUEST_INFO_FILESYSTEM: Final[int]
VIR_DOMAIN_GUEST_INFO_HOSTNAME: Final[int]
VIR_DOMAIN_GUEST_INFO_INTERFACES: Final[int]
VIR_DOMAIN_GUEST_INFO_OS: Final[int]
VIR_DOMAIN_GUEST_INFO_TIMEZONE: Final[int]
VIR_DOMAIN_GUEST_INFO_USERS: Final[int]
VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT: Final[int]
VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP: Final[int]
VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE: Final[int]
VIR_DOMAIN_JOB_BOUNDED: Final[int]
VIR_DOMAIN_JOB_CANCELLED: Final[int]
VIR_DOMAIN_JOB_COMPLETED: Final[int]
VIR_DOMAIN_JOB_FAILED: Final[int]
VIR_DOMAIN_JOB_NONE: Final[int]
VIR_DOMAIN_JOB_OPERATION_BACKUP: Final[int]
VIR_DOMAIN_JOB_OPERATION_DUMP: Final[int]
VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: Final[int]
VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: Final[int]
VIR_DOMAIN_JOB_OPERATION_RESTORE: Final[int]
VIR_DOMAIN_JOB_OPERATION_SAVE: Final[int]
VIR_DOMAIN_JOB_OPERATION_SNAPSHOT: Final[int]
VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_DELETE: Final[int]
VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT: Final[int]
VIR_DOMAIN_JOB_OPERATION_START: Final[int]
VIR_DOMAIN_JOB_OPERATION_UNKNOWN: Final[int]
VIR_DOMAIN_JOB_STATS_COMPLETED: Final[int]
VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED: Final[int]
VIR_DOMAIN_JOB_UNBOUNDED: Final[int]
VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON: Final[int]
VIR_DOMAIN_MEMORY_STAT_AVAILABLE: Final[int]
VIR_DOMAIN_MEMORY_STAT_DISK_CACHES: Final[int]
VIR_DOMAIN_MEMORY_STAT_HUGETLB_PGALLOC: Final[int]
VIR_DOMAIN_MEMORY_STAT_HUGETLB_PGFAIL: Final[int]
VIR_DOMAIN_MEMORY_STAT_LAST: Final[int]
VIR_DOMAIN_MEMORY_STAT_LAST_UPDATE: Final[int]
VIR_DOMAIN_MEMORY_STAT_MAJOR_FAULT: Final[int]
VIR_DOMAIN_MEMORY_STAT_MINOR_FAULT: Final[int]
VIR_DOMAIN_MEMORY_STAT_NR: Final[int]
VIR_DOMAIN_MEMORY_STAT_RSS: Final[int]
VIR_DOMAIN_MEMORY_STAT_SWAP_IN: Final[int]
VIR_DOMAIN_MEMORY_STAT_SWAP_OUT: Final[int]
VIR_DOMAIN_MEMORY_STAT_UNUSED: Final[int]
VIR_DOMAIN_MEMORY_STAT_USABLE: Final[int]
VIR_DOMAIN_MEM_CONFIG: Final[int]
VIR_DOMAIN_MEM_CURRENT: Final[int]
VIR_DOMAIN_MEM_LIVE: Final[int]
VIR_DOMAIN_MEM_MAXIMUM: Final[int]
VIR_DOMAIN_METADATA_DESCRIPTION: Final[int]
VIR_DOMAIN_METADATA_ELEMENT: Final[int]
VIR_DOMAIN_METADATA_TITLE: Final[int]
VIR_DOMAIN_NOSTATE: Final[int]
VIR_DOMAIN_NOSTATE_UNKNOWN: Final[int]
VIR_DOMAIN_PAUSED: Final[int]
VIR_DOMAIN_PAUSED_CRASHED: Final[int]
VIR_DOMAIN_PAUSED_DUMP: Final[int]
VIR_DOMAIN_PAUSED_FROM_SNAPSHOT: Final[int]
VIR_DOMAIN_PAUSED_IOERROR: Final[int]
VIR_DOMAIN_PAUSED_MIGRATION: Final[int]
VIR_DOMAIN_PAUSED_POSTCOPY: Final[int]
VIR_DOMAIN_PAUSED_POSTCOPY_FAILED: Final[int]
VIR_DOMAIN_PAUSED_SAVE: Final[int]
VIR_DOMAIN_PAUSED_SHUTTING_DOWN: Final[int]
VIR_DOMAIN_PAUSED_SNAPSHOT: Final[int]
VIR_DOMAIN_PAUSED_STARTING_UP: Final[int]
VIR_DOMAIN_PAUSED_UNKNOWN: Final[int]
VIR_DOMAIN_PAUSED_USER: Final[int]
VIR_DOMAIN_PAUSED_WATCHDOG: Final[int]
VIR_DOMAIN_PMSUSPENDED: Final[int]
VIR_DOMAIN_PMSUSPENDED_DISK_UNKNOWN: Final[int]
VIR_DOMAIN_PMSUSPENDED_UNKNOWN: Final[int]
VIR_DOMAIN_REBOOT_ACPI_POWER_BTN: Final[int]
VIR_DOMAIN_REBOOT_DEFAULT: Final[int]
VIR_DOMAIN_REBOOT_GUEST_AGENT: Final[int]
VIR_DOMAIN_REBOOT_INITCTL: Final[int]
VIR_DOMAIN_REBOOT_PARAVIRT: Final[int]
VIR_DOMAIN_REBOOT_SIGNAL: Final[int]
VIR_DOMAIN_RUNNING: Final[int]
VIR_DOMAIN_RUNNING_BOOTED: Final[int]
VIR_DOMAIN_RUNNING_CRASHED: Final[int]
VIR_DOMAIN_RUNNING_FROM_SNAPSHOT: Final[int]
VIR_DOMAIN_RUNNING_MIGRATED: Final[int]
VIR_DOMAIN_RUNNING_MIGRATION_CANCELED: Final[int]
VIR_DOMAIN_RUNNING_POSTCOPY: Final[int]
VIR_DOMAIN_RUNNING_POSTCOPY_FAILED: Final[int]
VIR_DOMAIN_RUNNING_RESTORED: Final[int]
VIR_DOMAIN_RUNNING_SAVE_CANCELED: Final[int]
VIR_DOMAIN_RUNNING_UNKNOWN: Final[int]
VIR_DOMAIN_RUNNING_UNPAUSED: Final[int]
VIR_DOMAIN_RUNNING_WAKEUP: Final[int]
VIR_DOMAIN_SAVE_BYPASS_CACHE: Final[int]
VIR_DOMAIN_SAVE_IMAGE_XML_SECURE: Final[int]
VIR_DOMAIN_SAVE_PAUSED: Final[int]
VIR_DOMAIN_SAVE_RESET_NVRAM: Final[int]
VIR_DOMAIN_SAVE_RUNNING: Final[int]
VIR_DOMAIN_SHUTDOWN: Final[int]
VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN: Final[int]
VIR_DOMAIN_SHUTDOWN_DEFAULT: Final[int]
VIR_DOMAIN_SHUTDOWN_GUEST_AGENT: Final[int]
VIR_DOMAIN_SHUTDOWN_INITCTL: Final[int]
VIR_DOMAIN_SHUTDOWN_PARAVIRT: Final[int]
VIR_DOMAIN_SHUTDOWN_SIGNAL: Final[int]
VIR_DOMAIN_SHUTDOWN_UNKNOWN: Final[int]
VIR_DOMAIN_SHUTDOWN_USER: Final[int]
VIR_DOMAIN_SHUTOFF: Final[int]
VIR_DOMAIN_SHUTOFF_CRASHED: Final[int]
VIR_DOMAIN_SHUTOFF_DAEMON: Final[int]
VIR_DOMAIN_SHUTOFF_DESTROYED: Final[int]
VIR_DOMAIN_SHUTOFF_FAILED: Final[int]
VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT: Final[int]
VIR_DOMAIN_SHUTOFF_MIGRATED: Final[int]
VIR_DOMAIN_SHUTOFF_SAVED: Final[int]
VIR_DOMAIN_SHUTOFF_SHUTDOWN: Final[int]
VIR_DOMAIN_SHUTOFF_UNKNOWN: Final[int]
VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC: Final[int]
VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY: Final[int]
VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA: Final[int]
VIR_DOMAIN_START_AUTODESTROY: Final[int]
VIR_DOMAIN_START_BYPASS_CACHE: Final[int]
VIR_DOMAIN_START_FORCE_BOOT: Final[int]
VIR_DOMAIN_START_PAUSED: Final[int]
VIR_DOMAIN_START_RESET_NVRAM: Final[int]
VIR_DOMAIN_START_VALIDATE: Final[int]
VIR_DOMAIN_STATS_BALLOON: Final[int]
VIR_DOMAIN_STATS_BLOCK: Final[int]
VIR_DOMAIN_STATS_CPU_TOTAL: Final[int]
VIR_DOMAIN_STATS_DIRTYRATE: Final[int]
VIR_DOMAIN_STATS_INTERFACE: Final[int]
VIR_DOMAIN_STATS_IOTHREAD: Final[int]
VIR_DOMAIN_STATS_MEMORY: Final[int]
VIR_DOMAIN_STATS_PERF: Final[int]
VIR_DOMAIN_STATS_STATE: Final[int]
VIR_DOMAIN_STATS_VCPU: Final[int]
VIR_DOMAIN_STATS_VM: Final[int]
VIR_DOMAIN_TIME_SYNC: Final[int]
VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA: Final[int]
VIR_DOMAIN_UNDEFINE_KEEP_NVRAM: Final[int]
VIR_DOMAIN_UNDEFINE_KEEP_TPM: Final[int]
VIR_DOMAIN_UNDEFINE_MANAGED_SAVE: Final[int]
VIR_DOMAIN_UNDEFINE_NVRAM: Final[int]
VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA: Final[int]
VIR_DOMAIN_UNDEFINE_TPM: Final[int]
VIR_DOMAIN_XML_INACTIVE: Final[int]
VIR_DOMAIN_XML_MIGRATABLE: Final[int]
VIR_DOMAIN_XML_SECURE: Final[int]
VIR_DOMAIN_XML_UPDATE_CPU: Final[int]
VIR_DUMP_LIVE: Final[int]
VIR_ERR_ACCESS_DENIED: Final[int]
VIR_ERR_AGENT_UNRESPONSIVE: Final[int]
VIR_ERR_AGENT_UNSYNCED: Final[int]
VIR_ERR_ARGUMENT_UNSUPPORTED: Final[int]
VIR_ERR_AUTH_CANCELLED: Final[int]
VIR_ERR_AUTH_FAILED: Final[int]
VIR_ERR_AUTH_UNAVAILABLE: Final[int]
VIR_ERR_BLOCK_COPY_ACTIVE: Final[int]
VIR_ERR_BUILD_FIREWALL: Final[int]
VIR_ERR_CALL_FAILED: Final[int]
VIR_ERR_CHECKPOINT_INCONSISTENT: Final[int]
VIR_ERR_CONFIG_UNSUPPORTED: Final[int]
VIR_ERR_CONF_SYNTAX: Final[int]
VIR_ERR_CPU_INCOMPATIBLE: Final[int]
VIR_ERR_DBUS_SERVICE: Final[int]
VIR_ERR_DEVICE_MISSING: Final[int]
VIR_ERR_DOM_EXIST: Final[int]
VIR_ERR_DRIVER_FULL: Final[int]
VIR_ERR_ERROR: Final[int]
VIR_ERR_GET_FAILED: Final[int]
VIR_ERR_GNUTLS_ERROR: Final[int]
VIR_ERR_HOOK_SCRIPT_FAILED: Final[int]
VIR_ERR_HTTP_ERROR: Final[int]
VIR_ERR_INTERNAL_ERROR: Final[int]
VIR_ERR_INVALID_ARG: Final[int]
VIR_ERR_INVALID_CONN: Final[int]
VIR_ERR_INVALID_DOMAIN: Final[int]
VIR_ERR_INVALID_DOMAIN_CHECKPOINT: Final[int]
VIR_ERR_INVALID_DOMAIN_SNAPSHOT: Final[int]
VIR_ERR_INVALID_INTERFACE: Final[int]
VIR_ERR_INVALID_MAC: Final[int]
VIR_ERR_INVALID_NETWORK: Final[int]
VIR_ERR_INVALID_NETWORK_PORT: Final[int]
VIR_ERR_INVALID_NODE_DEVICE: Final[int]
VIR_ERR_INVALID_NWFILTER: Final[int]
VIR_ERR_INVALID_NWFILTER_BINDING: Final[int]
VIR_ERR_INVALID_SECRET: Final[int]
VIR_ERR_INVALID_STORAGE_POOL: Final[int]
VIR_ERR_INVALID_STORAGE_VOL: Final[int]
VIR_ERR_INVALID_STREAM: Final[int]
VIR_ERR_LIBSSH: Final[int]
VIR_ERR_MIGRATE_FINISH_OK: Final[int]
VIR_ERR_MIGRATE_PERSIST_FAILED: Final[int]
VIR_ERR_MIGRATE_UNSAFE: Final[int]
VIR_ERR_MULTIPLE_DOMAINS: Final[int]
VIR_ERR_MULTIPLE_INTERFACES: Final[int]
VIR_ERR_NETWORK_EXIST: Final[int]
VIR_ERR_NETWORK_PORT_EXIST: Final[int]
VIR_ERR_NONE: Final[int]
VIR_ERR_NO_CLIENT: Final[int]
VIR_ERR_NO_CONNECT: Final[int]
VIR_ERR_NO_DEVICE: Final[int]
VIR_ERR_NO_DOMAIN: Final[int]
VIR_ERR_NO_DOMAIN_BACKUP: Final[int]
VIR_ERR_NO_DOMAIN_CHECKPOINT: Final[int]
VIR_ERR_NO_DOMAIN_METADATA: Final[int]
VIR_ERR_NO_DOMAIN_SNAPSHOT: Final[int]
VIR_ERR_NO_HOSTNAME: Final[int]
VIR_ERR_NO_INTERFACE: Final[int]
VIR_ERR_NO_KERNEL: Final[int]
VIR_ERR_NO_MEMORY: Final[int]
VIR_ERR_NO_NAME: Final[int]
VIR_ERR_NO_NETWORK: Final[int]
VIR_ERR_NO_NETWORK_PORT: Final[int]
VIR_ERR_NO_NODE_DEVICE: Final[int]
VIR_ERR_NO_NWFILTER: Final[int]
VIR_ERR_NO_NWFILTER_BINDING: Final[int]
VIR_ERR_NO_OS: Final[int]
VIR_ERR_NO_ROOT: Final[int]
VIR_ERR_NO_SECRET: Final[int]
VIR_ERR_NO_SECURITY_MODEL: Final[int]
VIR_ERR_NO_SERVER: Final[int]
VIR_ERR_NO_SOURCE: Final[int]
VIR_ERR_NO_STORAGE_POOL: Final[int]
VIR_ERR_NO_STORAGE_VOL: Final[int]
VIR_ERR_NO_SUPPORT: Final[int]
VIR_ERR_NO_TARGET: Final[int]
VIR_ERR_NO_XEN: Final[int]
VIR_ERR_NO_XENSTORE: Final[int]
VIR_ERR_OK: Final[int]
VIR_ERR_OPEN_FAILED: Final[int]
VIR_ERR_OPERATION_ABORTED: Final[int]
VIR_ERR_OPERATION_DENIED: Final[int]
VIR_ERR_OPERATION_FAILED: Final[int]
VIR_ERR_OPERATION_INVALID: Final[int]
VIR_ERR_OPERATION_TIMEOUT: Final[int]
VIR_ERR_OPERATION_UNSUPPORTED: Final[int]
VIR_ERR_OS_TYPE: Final[int]
VIR_ERR_OVERFLOW: Final[int]
VIR_ERR_PARSE_FAILED: Final[int]
VIR_ERR_POST_FAILED: Final[int]
VIR_ERR_READ_FAILED: Final[int]
VIR_ERR_RESOURCE_BUSY: Final[int]
VIR_ERR_RPC: Final[int]
VIR_ERR_SEXPR_SERIAL: Final[int]
VIR_ERR_SNAPSHOT_REVERT_RISKY: Final[int]
VIR_ERR_SSH: Final[int]
VIR_ERR_STORAGE_POOL_BUILT: Final[int]
VIR_ERR_STORAGE_PROBE_FAILED: Final[int]
VIR_ERR_STORAGE_VOL_EXIST: Final[int]
VIR_ERR_SYSTEM_ERROR: Final[int]
VIR_ERR_UNKNOWN_HOST: Final[int]
VIR_ERR_WARNING: Final[int]
VIR_ERR_WRITE_FAILED: Final[int]
VIR_ERR_XEN_CALL: Final[int]
VIR_ERR_XML_DETAIL: Final[int]
VIR_ERR_XML_ERROR: Final[int]
VIR_ERR_XML_INVALID_SCHEMA: Final[int]
VIR_EVENT_HANDLE_ERROR: Final[int]
VIR_EVENT_HANDLE_HANGUP: Final[int]
VIR_EVENT_HANDLE_READABLE: Final[int]
VIR_EVENT_HANDLE_WRITABLE: Final[int]
VIR_FROM_DOM: Final[int]
VIR_FROM_LIBXL: Final[int]
VIR_FROM_NONE: Final[int]
VIR_FROM_QEMU: Final[int]
VIR_FROM_REMOTE: Final[int]
VIR_FROM_RPC: Final[int]
VIR_FROM_TEST: Final[int]
VIR_IP_ADDR_TYPE_IPV4: Final[int]
VIR_IP_ADDR_TYPE_IPV6: Final[int]
VIR_MIGRATE_ABORT_ON_ERROR: Final[int]
VIR_MIGRATE_AUTO_CONVERGE: Final[int]
VIR_MIGRATE_CHANGE_PROTECTION: Final[int]
VIR_MIGRATE_COMPRESSED: Final[int]
VIR_MIGRATE_LIVE: Final[int]
VIR_MIGRATE_NON_SHARED_DISK: Final[int]
VIR_MIGRATE_NON_SHARED_INC: Final[int]
VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES: Final[int]
VIR_MIGRATE_OFFLINE: Final[int]
VIR_MIGRATE_PARALLEL: Final[int]
VIR_STREAM_NONBLOCK: Final[int]
VIR_MIGRATE_PARAM_BANDWIDTH: Final[str]
VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY: Final[str]
VIR_MIGRATE_PARAM_URI: Final[str]
VIR_MIGRATE_PAUSED: Final[int]
VIR_MIGRATE_PEER2PEER: Final[int]
VIR_MIGRATE_PERSIST_DEST: Final[int]
VIR_MIGRATE_POSTCOPY: Final[int]
VIR_MIGRATE_POSTCOPY_RESUME: Final[int]
VIR_MIGRATE_RDMA_PIN_ALL: Final[int]
VIR_MIGRATE_TLS: Final[int]
VIR_MIGRATE_TUNNELLED: Final[int]
VIR_MIGRATE_UNDEFINE_SOURCE: Final[int]
VIR_MIGRATE_UNSAFE: Final[int]
VIR_MIGRATE_ZEROCOPY: Final[int]
VIR_NODE_CPU_STATS_ALL_CPUS: Final[int]
VIR_NODE_MEMORY_STATS_ALL_CELLS: Final[int]
