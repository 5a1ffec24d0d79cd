"""Asks for a restart of each highly available VM of a lost host, once that host was fenced; see docs/events.md.
ha_worker.py --ha 'prod-*' --fence power-off      (`power-off HOST` exits with 0 when the host is off for certain)"""
import argparse, asyncio, fnmatch, json, os, subprocess, sys, urllib.parse, urllib.request, aio_pika
flags, vms = argparse.ArgumentParser(description=__doc__), {}
for flag, default in (("broker-url", "amqp://engine.worker@127.0.0.1/"), ("broker-password-file", ""),
                      ("api", "http://127.0.0.1:8080"), ("ha", "*"), ("fence", "echo an example only: power off")):
    flags.add_argument(f"--{flag}", default=os.environ.get("VMPULSE_WORKER_" + flag.upper().replace("-", "_"), default))
args = flags.parse_args()

async def ask(path):  # waits for a view that is away; {}: it knows no such VM or host
    while True:
        try:
            return json.load(await asyncio.to_thread(urllib.request.urlopen, f"{args.api}/api/v1/{path}", timeout=5))
        except OSError as error:
            if getattr(error, "code", None) == 404:
                return {}
            await asyncio.sleep(2)

async def keep(told):  # which VMs are highly available, and the host that each was on last
    if fnmatch.fnmatch(told.get("name", ""), args.ha):
        vms[told.get("vm") or told["id"]] = told["host"]

async def relist(_=None, offset=0):
    while page := (await ask(f"vms?limit=1000&offset={offset}"))["vms"]:
        offset += len(page)
        [await keep(row) for row in page]

async def host_lost(told):
    host = told["host"]
    if (await ask(f"hosts/{host}")).get("state") != "lost":
        return  # it was lost when this was said, and is back
    if await asyncio.to_thread(subprocess.call, f"{args.fence} {host}", shell=True, stdout=sys.stderr) != 0:
        return print(f"{host} is not fenced and may live: nothing is restarted", file=sys.stderr, flush=True)
    for vm in [vm for vm, at in vms.items() if at == host]:
        now = {"claims": ()} | await ask(f"vms/{vm}")  # it may have moved, or be heard again; a Down one stays Down
        if (now.get("host"), now.get("status")) == (host, "Unknown") and any(c["active"] for c in now["claims"]):
            print(json.dumps({"restart": vm, "name": now.get("name"), "was_on": host}), flush=True)

async def handle(message):
    async with message.process(requeue=True):  # acknowledged after the work: what fails comes again
        work = {"host.lost": host_lost, "fleet.relist": relist}.get(message.headers["cloudEvents_type"], keep)
        await work(json.loads(message.body))

async def main():
    secret = args.broker_password_file and ":" + urllib.parse.quote(open(args.broker_password_file).read().strip(), "")
    connection = await aio_pika.connect_robust(args.broker_url.replace("@", f"{secret}@", 1))
    connection.reconnect_callbacks.add(relist)  # for the queue may have ended while we were away
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=1)
    bounds = {"x-max-length": 100_000, "x-overflow": "drop-head", "x-expires": 3_600_000}
    queue = await channel.declare_queue("vmpulse.worker.ha", durable=True, arguments=bounds)
    [await queue.bind("vmpulse.fleet", key) for key in ("vm.#", "host.lost.#", "fleet.relist.#")]
    await relist()  # whatever the queue kept comes after it
    await queue.consume(handle)
    await asyncio.Future()

try:
    asyncio.run(main())
except (OSError, aio_pika.exceptions.AMQPError) as error:
    sys.exit(f"ha_worker: {error}")
