"""Asks for a restart of highly available VMs whose host is lost, but only after that host was fenced.

    ha_worker.py --ha 'prod-*' --fence '/usr/local/bin/power-off'      needs aio-pika 10; see docs/events.md
"""
import argparse, asyncio, fnmatch, json, os, shlex, sys, time, urllib.error, urllib.parse, urllib.request  # noqa: E401

import aio_pika

env = lambda name, default: os.environ.get(f"VMPULSE_WORKER_{name}", default)
flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
flags.add_argument("--broker-url", default=env("BROKER_URL", "amqp://engine.worker@127.0.0.1:5672/"))
flags.add_argument("--broker-password-file", default=env("BROKER_PASSWORD_FILE", ""))
flags.add_argument("--api", default=env("API", "http://127.0.0.1:8080"))
flags.add_argument("--ha", default=env("HA", "*"), help="names of the highly available VMs, such as 'prod-*'")
flags.add_argument("--fence", default=env("FENCE", "echo would now power off"), help="gets the host; 0: it is off")
