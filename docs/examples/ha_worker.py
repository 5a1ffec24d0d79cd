"""Asks for a restart of each highly available VM of a lost host, once that host was fenced; see docs/events.md.
ha_worker.py --ha 'prod-*' --fence power-off      (`power-off HOST` exits with 0 when the host is off for certain)"""
import argparse, asyncio, fnmatch, json, os, subprocess, sys, urllib.parse, urllib.request, aio_pika
flags, vms, busy = argparse.ArgumentParser(description=__doc__), {}, asyncio.Lock()  # vms: where each HA VM was last
for flag, default in (("broker-url", "amqp://engine.worker@127.0.0.1/"), ("broker-password-file", ""), ("ha", "*"),
        ("api", "http://127.0.0.1:8080"), ("fence", "echo an example only: power off"), ("settle", "20")):
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

async def ask_sighted(path, was_blind=False):  # waits while the view hears nothing, and then until it has heard all
    while not (await ask("fleet"))["broker_ok"]:
        was_blind = await asyncio.sleep(1, True)
    return await asyncio.sleep(float(args.settle), await ask_sighted(path)) if was_blind else await ask(path)
