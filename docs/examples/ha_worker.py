"""Asks for a restart of each highly available VM of a lost host, once that host was fenced; see docs/events.md.
ha_worker.py --ha 'prod-*' --fence power-off      (`power-off HOST` exits with 0 when the host is off for certain)"""
import argparse, asyncio, fnmatch, json, os, subprocess, sys, urllib.parse, urllib.request, aio_pika
flags, vms, busy = argparse.ArgumentParser(description=__doc__), {}, asyncio.Lock()  # vms: the last host of each HA VM
for flag, default in (("broker-url", "amqp://engine.worker@127.0.0.1/"), ("broker-password-file", ""), ("settle", "20"),
                      ("api", "http://127.0.0.1:8080"), ("ha", "*"), ("fence", "echo an example only: power off")):
    flags.add_argument(f"--{flag}", default=os.environ.get("VMPULSE_WORKER_" + flag.upper().replace("-", "_"), default))
args = flags.parse_args()

async def ask(path):  # waits for a view that is away; {}: it knows no such VM
    while True:
        try: return json.load(await asyncio.to_thread(urllib.request.urlopen, f"{args.api}/api/v1/{path}", timeout=5))
        except OSError as error:
            if getattr(error, "code", None) == 404: return {}
        await asyncio.sleep(2)
async def sighted():  # waits while the view itself is cut off, and then until whoever is there was heard again
    while not (await ask("fleet"))["broker_ok"]:
        while not (await ask("fleet"))["broker_ok"]: await asyncio.sleep(1)
        await asyncio.sleep(float(args.settle))
async def restartable(host):  # what ran there, as far as is known, and neither runs nor arrives elsewhere; never Down
    for vm in [vm for vm, at in vms.items() if at == host]:
        await sighted()
        now = await ask(f"vms/{vm}")
        if [(c["host"], c["hostState"]) for c in now.get("claims", ()) if c["active"]] == [(host, "lost")]: yield now
async def keep(told):  # without a name it is of a VM whose name was told before, or will be
    if fnmatch.fnmatch(told.get("name", ""), args.ha) or ("name" not in told and told["vm"] in vms):
        vms[told["vm"]] = told["host"]
async def forget(told): vms.pop(told["vm"], None)
async def relist(_):  # of what is listed as lost, the event may be among those that were missed
    after = ""
    while page := (await ask(f"vms?sort=id&limit=1000{after}"))["vms"]:
        after = f"&after={page[-1]['id']}"
        [await keep({"vm": row["id"], **row}) for row in page]
    [await host_lost(row) for row in (await ask("hosts?state=lost&limit=10000"))["hosts"]]
async def host_lost(told):
    if [vm async for vm in restartable(told["host"])]:  # else it is back, or there is nothing to gain
        if await asyncio.to_thread(subprocess.call, f"{args.fence} {told['host']}", shell=True, stdout=sys.stderr) == 0:
            await asyncio.sleep(float(args.settle))  # who took one of the VMs at the last moment has said so by then
            async for vm in restartable(told["host"]):
                print(json.dumps({"restart": vm["id"], "name": vm.get("name"), "was_on": vm["host"]}), flush=True)
async def work(kind, told):
    async with busy:
        await {"host.lost": host_lost, "fleet.relist": relist, "vm.gone": forget}.get(kind, keep)(told)
async def handle(message):
    async with message.process(requeue=True):  # acknowledged after the work: what fails comes again
        await work(message.headers["cloudEvents_type"], json.loads(message.body))

async def main():
    secret = args.broker_password_file and ":" + urllib.parse.quote(open(args.broker_password_file).read().strip(), "")
    connection = await aio_pika.connect_robust(args.broker_url.replace("@", f"{secret}@", 1))
    connection.reconnect_callbacks.add(lambda *_: work("fleet.relist", {}))  # the queue may have ended meanwhile
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=1)
    bounds = {"x-max-length": 100_000, "x-overflow": "drop-head", "x-expires": 3_600_000}
    queue = await channel.declare_queue("vmpulse.worker.ha", durable=True, arguments=bounds)
    [await queue.bind("vmpulse.fleet", key) for key in ("vm.#", "host.lost.#", "fleet.relist.#")]
    # Forever; what the queue kept waits for its turn after the lists.
    await asyncio.gather(queue.consume(handle), work("fleet.relist", {}), asyncio.Future())
try: asyncio.run(main())
except (OSError, aio_pika.exceptions.AMQPError) as error: sys.exit(f"ha_worker: {error}")
