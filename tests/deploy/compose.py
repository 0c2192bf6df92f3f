"""The relays, databases and load balancer of deploy/compose.yaml as processes of this machine: an app is activated, and people
hand over, through nginx while the relays are restarted one by one. tests/nodes does this to the relay alone, and harder; here it is the
configuration that is tested: the compose file's environment, its stop_grace_period and its nginx.conf.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import yaml

HANDOFF = os.environ["HANDOFF_BIN"]
COMPOSE = yaml.safe_load(pathlib.Path("deploy/compose.yaml").read_text())
RELAYS = [name for name in COMPOSE["services"] if name.startswith("relay-")]
PAIRS = 6
PATIENCE = 30


def expect(condition, what):
    if not condition:
        raise SystemExit(f"compose.py: {what}")


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        expect(time.monotonic() < end, f"{what}: not within {PATIENCE} s")
        time.sleep(0.05)


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def quiet(*command):
    return subprocess.run(command, capture_output=True).returncode == 0


class Postgres:
    """The compose file's PostgreSQL, as another user, because it does not run as root."""

    def __init__(self, folder, port):
        self.port = port
        self.data = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self.settings = COMPOSE["services"]["postgres"]["environment"]
        if os.geteuid() == 0:
            shutil.chown(self.data, "postgres", "postgres")
        password = self.data / "password"
        password.write_text(self.settings["POSTGRES_PASSWORD"])
        user = ["--username", self.settings["POSTGRES_USER"], "--auth-host", "scram-sha-256", "--pwfile", password]
        self.run("initdb", "--pgdata", self.data / "data", "--no-sync", "--encoding", "UTF8", *user).wait()
        command = ["postgres", "-D", self.data / "data", "-k", self.data, "-h", "127.0.0.1", "-p", str(port), "-F"]
        self.process = self.run(*command)

    def run(self, program, *arguments, **more):
        found = shutil.which(program) or max(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([found, *arguments], cwd="/", **user, **(quiet | more))

    def make(self):
        """What its image does at the first start."""
        login = ["-h", str(self.data), "-p", str(self.port), "-U", self.settings["POSTGRES_USER"]]
        until("PostgreSQL", lambda: self.run("psql", *login, "-c", "select 1", "postgres").wait() == 0)
        made = self.run("createdb", *login, self.settings["POSTGRES_DB"]).wait()
        expect(made == 0, "no database could be made")


class Relay:
    def __init__(self, name, port, metrics, redis, postgres, keys, public_url):
        self.name, self.port, self.metrics = name, port, metrics
        environment = dict(COMPOSE["services"][name]["environment"])
        expect(environment["HANDOFF_REDIS__URL"] == "redis://redis:6379", "where is Redis?")
        database = environment["HANDOFF_ACTIVATION__DATABASE_URL"]
        expect("@postgres:5432/" in database, "where is PostgreSQL?")
        expect(environment["HANDOFF_ACTIVATION__PUBLIC_URL"] == "http://127.0.0.1:8080", "where is nginx?")
        expect(COMPOSE["services"][name]["volumes"] == ["keys:/data"], "where are the keys?")
        # Only what a container has of its own: addresses, and a folder.
        environment |= {
            "HANDOFF_SERVER__LISTEN": f"127.0.0.1:{port}",
            "HANDOFF_SERVER__METRICS_LISTEN": f"127.0.0.1:{metrics}",
            "HANDOFF_SERVER__TRUSTED_PROXIES": "127.0.0.1",
            "HANDOFF_REDIS__URL": f"redis://127.0.0.1:{redis}",
            "HANDOFF_ACTIVATION__DATABASE_URL": database.replace("postgres:5432", f"127.0.0.1:{postgres}"),
            "HANDOFF_ACTIVATION__DATA_DIRECTORY": str(keys),
            "HANDOFF_ACTIVATION__PUBLIC_URL": public_url,
        }
        self.environment = environment

    def start(self):
        self.process = subprocess.Popen([HANDOFF, "serve", "--log", "error"], env=self.environment, stdout=subprocess.DEVNULL)
        until(f"{self.name} is healthy", lambda: quiet(HANDOFF, "healthcheck", f"http://127.0.0.1:{self.metrics}"))

    def stop(self):
        grace = int(COMPOSE["services"][self.name]["stop_grace_period"].removesuffix("s"))
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=grace)
        expect(code == 0, f"{self.name} ended with {code}")
        return time.monotonic() - started

    def status(self):
        asked = subprocess.run([HANDOFF, "status", "--json", f"http://127.0.0.1:{self.metrics}"], capture_output=True, check=True)
        return json.loads(asked.stdout)


def hand_over(url, folder, number, phones):
    """One handoff at human pace; an empty text, or what went wrong. Its processes are among `phones` while they run."""
    credential, received = folder / "credential", folder / f"received-{number}"
    common = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    old = subprocess.Popen([HANDOFF, "old", "--json", "--relay", url, "--credential", credential], stdin=subprocess.PIPE, **common)
    phones.add(old)
    new = None
    try:
        shown = next((event for event in map(json.loads, old.stdout) if event["event"] == "qr_shown"), None)
        if shown is None:
            return f"old: {old.stderr.read()}"
        command = [HANDOFF, "new", "--json", "--relay", url, "--qr", shown["text"], "--out", received]
        new = subprocess.Popen(command, **common)
        phones.add(new)
        code = next((event for event in map(json.loads, new.stdout) if event["event"] == "show_code"), None)
        if code is None:
            return f"new: {new.stderr.read()}"
        # A person reads and types.
        time.sleep(1.5)
        old.stdin.write(code["code"] + "\n")
        old.stdin.flush()
        told = new.stdout.read() + old.stdout.read()
        codes = (old.wait(), new.wait())
        same = received.exists() and received.read_bytes() == credential.read_bytes()
        return "" if codes == (0, 0) and same else f"exit codes {codes}: {told[-600:]}"
    finally:
        for process in (old, new):
            if process is not None and process.poll() is None:
                process.kill()
            phones.discard(process)
        received.unlink(missing_ok=True)


def answer(url, method="GET"):
    """Status and kind of content."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as got:
            return got.status, got.headers.get_content_type()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers.get_content_type()


def check_ways(port, relay):
    """What phones need is let in, and nothing else that the relay has."""
    problem = "application/problem+json"
    for path in ("/v1/activations", "/v1/apps", "/v1/apps/events"):
        code, kind = answer(f"http://127.0.0.1:{port}{path}")
        expect(400 <= code < 500 and kind == problem, f"{path} through nginx: {code} {kind}")
    for path in ("/v1/admin/users/look", "/dev/outbox", "/healthz", "/metrics", "/v1/activations-of-mine"):
        code, kind = answer(f"http://127.0.0.1:{port}{path}")
        expect((code, kind) == (404, "text/html"), f"{path} is let in: {code} {kind}")
    expect(answer(f"http://127.0.0.1:{relay.port}/dev/outbox")[0] == 200, "the outbox is not there at the relay")


def activate(url, relays, folder):
    """One app, from an enrolment token to its personal PIN, as the first lines of compose.yaml say."""
    keys, state, token = (str(folder / name) for name in ("keys", "phone.json", "token"))
    service = ["--service", f"http://127.0.0.1:{relays[0].port}", "--token-file", f"{keys}/admin.token"]
    command = [HANDOFF, "enrolment-token", "--user", "maria82", "--phone", "+4512345678", *service]
    made = subprocess.run([*command, "--set", f"activation.data_directory={keys}"], capture_output=True, text=True)
    expect(made.returncode == 0, f"enrolment-token: {made.stderr}")
    pathlib.Path(token).write_text(made.stdout)
    command = [HANDOFF, "activate", "--json", "--server", url, "--enrolment-token-file", token, "--state", state]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    app = subprocess.Popen([*command, "--biometrics", "yes", "--notifications", "no"], **pipes)
    sent = []

    def look():
        for relay in relays:
            command = [HANDOFF, "outbox", "--json", f"http://127.0.0.1:{relay.port}"]
            shown = subprocess.run(command, capture_output=True, text=True).stdout
            sent.extend(re.findall(r"#(\d{8})", shown))
        return sent or app.poll() is not None

    until("an SMS", look)
    told, problem = app.communicate(f"{(sent or [''])[0]}\n284716\n284716\n", timeout=PATIENCE)
    expect(app.returncode == 0, f"activate: {told}{problem}")
    return state


def nginx_configuration(folder, port, relays):
    text = pathlib.Path("deploy/compose/nginx.conf").read_text()
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("/run/nginx.pid", f"{folder}/nginx.pid")
    text = text.replace("/var/cache/nginx", str(folder)).replace("/dev/stderr", f"{folder}/nginx.log")
    for relay in relays:
        expect(f"server {relay.name}:8080" in text, f"nginx.conf does not know {relay.name}")
        text = text.replace(f"{relay.name}:8080", f"127.0.0.1:{relay.port}")
    expect(not re.search(r"relay-\d", text), "nginx.conf knows a relay that compose.yaml has not")
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


def main(folder):
    (folder / "credential").write_bytes(os.urandom(20_000))
    redis_port, nginx_port, postgres_port, *ports = free_ports(3 + 2 * len(RELAYS))
    url = f"ws://127.0.0.1:{nginx_port}"
    databases = (redis_port, postgres_port, folder / "keys", url.replace("ws:", "http:"))
    relays = [Relay(name, *ports[2 * n : 2 * n + 2], *databases) for n, name in enumerate(RELAYS)]
    processes, threads, phones = [], [], set()
    over, outcomes = threading.Event(), []
    try:
        command = ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", *COMPOSE["services"]["redis"]["command"][1:]]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder))
        until("Redis", lambda: is_open(redis_port))
        postgres = Postgres(folder, postgres_port)
        processes.append(postgres.process)
        postgres.make()
        for relay in relays:
            relay.start()
            processes.append(relay)
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        command = [nginx, "-p", folder, "-c", nginx_configuration(folder, nginx_port, relays), "-g", "daemon off;"]
        processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        until("nginx", lambda: is_open(nginx_port))
        check_ways(nginx_port, relays[0])
        state = activate(url.replace("ws:", "http:"), relays, folder)

        def people(pair):
            while not over.is_set():
                outcomes.append(hand_over(url, folder, pair, phones))

        threads += [threading.Thread(target=people, args=(pair,)) for pair in range(PAIRS)]
        for thread in threads:
            thread.start()
        spread = [0] * len(relays)
        for number, relay in enumerate(relays):
            # So that each has something to lose when it goes.
            until(f"{relay.name} is in use", lambda: relay.status()["connections"]["open"] > 0)
            spread[number] = relay.status()["since_start"]["opened"]
            gone = relay.stop()
            relay.start()
            print(f"{relay.name}: {spread[number]:.0f} sessions opened here, gone after {gone:.1f} s, healthy again")
        # Its app is on file, whichever relay is asked.
        unlocked = subprocess.run([HANDOFF, "unlock", "--state", state], input="284716\n", capture_output=True, text=True)
        expect(unlocked.returncode == 0, f"unlock: {unlocked.stderr}")
        over.set()
        for thread in threads:
            thread.join(timeout=200)
        failed = [outcome for outcome in outcomes if outcome]
        print(f"compose: {len(outcomes)} handoffs through nginx during a rolling restart, {len(failed)} failed; an app is active")
        expect(not failed and len(outcomes) >= 2 * PAIRS, "\n".join(failed) or "too few handoffs")
        expect(all(spread), f"not every relay was used: {spread}")
    except SystemExit:
        log = folder / "nginx.log"
        print(log.read_text()[-2000:] if log.exists() else "nginx was not started", file=sys.stderr)
        raise
    finally:
        over.set()
        while alive := [thread for thread in threads if thread.is_alive()]:
            for phone in list(phones):
                phone.kill()
            alive[0].join(0.1)
        for process in reversed(processes):
            process = process.process if isinstance(process, Relay) else process
            # Not killed: nginx has to end its workers.
            process.terminate()
            process.terminate()
            process.wait(timeout=PATIENCE)


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    # nginx's workers are another user's.
    folder.chmod(0o755)
    main(folder)
    sys.exit(0)
