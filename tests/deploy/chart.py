"""The manifests of every set of values, as an inspector would read them; and values that must be refused.

    chart.py CHART HELM HANDOFF FOLDER      FOLDER has NAME.helm3.yaml and NAME.helm4.yaml for CHART/ci/NAME-values.yaml;
                                            kinds that are not Kubernetes' own are left in custom.json there
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

chart, helm, handoff, folder = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4])


def expect(condition, what):
    if not condition:
        sys.exit(f"chart.py: {what}")


def rendered(name, by="helm4"):
    return [document for document in yaml.safe_load_all((folder / f"{name}.{by}.yaml").read_text()) if document]


def of_kind(documents, kind, suffix=""):
    found = [d for d in documents if d["kind"] == kind and d["metadata"]["name"].endswith(suffix)]
    expect(len(found) == 1, f"{len(found)} of {kind} {suffix}")
    return found[0]


def pods(documents):
    return [(d, d["spec"]["template"]["spec"]) for d in documents if d["kind"] in ("Deployment", "Job")]


def check_restricted(name, document, pod):
    """The profile "restricted" of Kubernetes' pod security standards, and a root file system that is not written to."""
    where = f"{name}: {document['kind']} {document['metadata']['name']}"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        expect(not pod.get(key), f"{where}: {key}")
    security = pod["securityContext"]
    expect(security["runAsNonRoot"] is True and security["runAsUser"] > 0, f"{where}: runs as root")
    expect(security["seccompProfile"]["type"] == "RuntimeDefault", f"{where}: seccomp")
    expect(pod["automountServiceAccountToken"] is False, f"{where}: has a token")
    allowed = {"configMap", "secret", "emptyDir", "projected", "csi", "persistentVolumeClaim", "downwardAPI", "ephemeral"}
    for volume in pod.get("volumes", []):
        expect(set(volume) - {"name"} <= allowed, f"{where}: volume {volume}")
    for container in pod.get("initContainers", []) + pod["containers"]:
        mine = container["securityContext"]
        expect(mine["allowPrivilegeEscalation"] is False, f"{where}: privilege escalation")
        expect(mine["capabilities"] == {"drop": ["ALL"]}, f"{where}: capabilities")
        expect(mine["readOnlyRootFilesystem"] is True, f"{where}: root file system")
        expect(not mine.get("privileged"), f"{where}: privileged")
        expect(all("hostPort" not in port for port in container.get("ports", [])), f"{where}: host port")
        expect("memory" in container["resources"]["limits"], f"{where}: no limit of memory")
        secrets = [e["name"] for e in container.get("env", []) if re.search("PASSWORD$|KEY$", e["name"])]
        expect(not secrets, f"{where}: secrets in the environment: {secrets}")


def check_labels(name, documents):
    """Services and policies find their pods, and nobody else's."""
    templates = [d["spec"]["template"]["metadata"]["labels"] for d, _ in pods(documents)]
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] == "Service":
            wanted = spec["selector"]
        elif document["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
            wanted = (spec.get("podSelector") or spec["selector"])["matchLabels"]
        else:
            continue
        matched = [labels for labels in templates if wanted.items() <= labels.items()]
        expect(len(matched) == 1, f"{name}: {document['kind']} {document['metadata']['name']} selects {len(matched)}")


def check_drain(name, documents):
    """A pod has the time that its settings need to leave."""
    pod = relay(documents)
    settings = settings_file(documents)
    grace, window = (int(re.search(rf'^{key} = "(\d+)s"$', settings, re.M)[1]) for key in ("grace", "window"))
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    given = pod["terminationGracePeriodSeconds"]
    # An SMS under way may take 17 s after the drain.
    expect(given >= pause + grace + window + 18, f"{name}: {given} s are not enough for {pause} + {grace} + {window}")


def relay(documents):
    return next(pod for d, pod in pods(documents) if d["metadata"]["labels"]["app.kubernetes.io/component"] == "relay")


def settings_file(documents):
    configs = [d for d in documents if d["kind"] == "ConfigMap" and "handoff.toml" in d["data"]]
    expect(len(configs) == 1, "not one settings file")
    return configs[0]["data"]["handoff.toml"]


def check_settings(name, documents):
    """The program takes the settings file; files that only the cluster has are the one thing that it may miss."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(settings_file(documents))
        file.flush()
        # What has a file in the container has a value here.
        values = {
            "HANDOFF_REDIS__PASSWORD_FILE": "x",
            "HANDOFF_NETWORK__TAG_KEY_FILE": "A" * 43,
            "HANDOFF_ACTIVATION__DATA_DIRECTORY": "x",
            "HANDOFF_ACTIVATION__DATABASE_URL_FILE": "postgres://x",
            "HANDOFF_ACTIVATION__WEBHOOK_KEY_FILE": "A" * 43,
            "HANDOFF_SMS__TOKEN_FILE": "x",
            "HANDOFF_SMS__REPORT_KEY_FILE": "x",
            "HANDOFF_SMS_SECOND__TOKEN_FILE": "x",
            "HANDOFF_SMS_SECOND__REPORT_KEY_FILE": "A" * 43,
        }
        variables = {variable["name"] for variable in relay(documents)["containers"][0].get("env", [])}
        unknown = {name for name in variables if name.startswith("HANDOFF_")} - set(values)
        expect(not unknown, f"{name}: {unknown}")
        secrets = {name.removesuffix("_FILE"): value for name, value in values.items() if name in variables}
        command = [handoff, "serve", "--print-config", "--config", file.name]
        ran = subprocess.run(command, env=secrets, capture_output=True, text=True)
    expect(ran.returncode == 0, f"{name}: {ran.stderr}")


def check_network(name, documents):
    policies = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "NetworkPolicy"}
    if name == "cluster":
        expect(not policies, "a network policy although it is off")
        return
    ours = next(s for s in policies.values() if s["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "relay")
    expect(set(ours["policyTypes"]) == {"Ingress", "Egress"}, f"{name}: {ours['policyTypes']}")
    metrics = [rule for rule in ours["ingress"] if any(port["port"] == "metrics" for port in rule["ports"])]
    expect(all(rule.get("from") for rule in metrics), f"{name}: everybody reads the metrics")
    expect(bool(metrics) == (name != "one-node"), f"{name}: who reads the metrics?")
    egress = sorted({port["port"] for rule in ours["egress"] for port in rule["ports"]})
    wanted = {
        "trial": [53, 6379],
        "one-node": [53],
        "activation": [53, 5432, 6379],
        "gateway": [53, 443, 5432, 6379],
        "production": [53, 443, 4318, 5432, 6379, 26379],
    }[name]
    expect(egress == wanted, f"{name}: connects to {egress}")
    if name == "production":
        expect(all("to" in rule for rule in ours["egress"] if rule["ports"][0]["port"] != 53), "a server may be anywhere")
        public = next(rule for rule in ours["ingress"] if rule["ports"][0]["port"] == "public")
        expect(len(public["from"]) == 2, "the ingress controller and the load test")
        migration = next(s for n, s in policies.items() if n.endswith("-migration"))
        reached = sorted({port["port"] for rule in migration["egress"] for port in rule["ports"]})
        expect(migration["ingress"] == [] and reached == [53, 5432], f"migrations connect to {reached}")
    if name == "trial":
        redis = next(s for n, s in policies.items() if n.endswith("-redis"))
        expect(redis["egress"] == [] and len(redis["ingress"]) == 1 and redis["ingress"][0]["from"], "the trial Redis is open")


def check_metrics_are_not_public(name, documents):
    for document in documents:
        if document["kind"] == "Service" and any(p["targetPort"] == "metrics" for p in document["spec"]["ports"]):
            expect(document["spec"]["type"] == "ClusterIP" and len(document["spec"]["ports"]) == 1, f"{name}: metrics service")
        if document["kind"] == "Ingress":
            paths = [p for rule in document["spec"]["rules"] for p in rule["http"]["paths"]]
            expect([p["path"] for p in paths] == public_paths(name, documents), f"{name}: the ingress lets in {paths}")
            expect(all(p["backend"]["service"]["port"]["name"] == "public" for p in paths), f"{name}: ingress to metrics")
        if document["kind"] == "HTTPRoute":
            [rule] = document["spec"]["rules"]
            paths = [match["path"]["value"] for match in rule["matches"]]
            expect(paths == public_paths(name, documents), f"{name}: the route lets in {paths}")
            service = of_kind(documents, "Service", rule["backendRefs"][0]["name"])
            expect([p["port"] for p in service["spec"]["ports"]] == [rule["backendRefs"][0]["port"]], f"{name}: route to nowhere")
            expect(service["spec"]["ports"][0]["targetPort"] == "public", f"{name}: route to metrics")


def public_paths(name, documents):
    """What phones and SMS gateways need, and neither health, administration nor outbox."""
    has_activation = "\nenabled = true\n" in settings_file(documents)
    has_reports = name in ("gateway", "production")
    return ["/v1/sessions/"] + ["/v1/activations", "/v1/apps"] * has_activation + ["/v1/sms/reports"] * has_reports


def check_activation(name, documents):
    """Keys and addresses come from secrets alone; tables are made before pods start, by a Job that has what it needs."""
    text = settings_file(documents)
    for secret in ("database_url", "webhook_key", "token", "report_key"):
        expect(not re.search(rf"^{secret} =", text, re.M), f"{name}: {secret} is in the ConfigMap")
    pod = relay(documents)
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    expect(all(mount["readOnly"] for mount in mounts.values()), f"{name}: something is writable")
    has = "/etc/handoff/keys" in mounts
    expect(has == (name in ("activation", "gateway", "production")), f"{name}: keys {has}")
    # A variable of the image wins over the settings file, so the chart has to set it, too.
    of_image = set(re.findall(r"^ENV (HANDOFF_\w+)=", pathlib.Path("deploy/Dockerfile").read_text(), re.M))
    env = {variable["name"] for variable in pod["containers"][0].get("env", [])}
    expect(of_image and (of_image <= env or not has), f"{name}: the image's {of_image - env} would win over the settings")
    jobs = [(d, p) for d, p in pods(documents) if d["metadata"]["labels"]["app.kubernetes.io/component"] == "migration"]
    expect(len(jobs) == (name in ("activation", "production")), f"{name}: {len(jobs)} migration jobs")
    for job, migration in jobs:
        expect("pre-upgrade" in job["metadata"]["annotations"]["helm.sh/hook"], f"{name}: when are the tables made?")
        # A hook runs before the rest is there.
        expect("serviceAccountName" not in migration, f"{name}: the Job waits for a service account")
        expect(not [v for v in migration["volumes"] if "configMap" in v], f"{name}: the Job waits for a ConfigMap")
        [container] = migration["containers"]
        expect(container["args"] == ["migrate"], f"{name}: {container['args']}")
        expect({m["mountPath"] for m in container["volumeMounts"]} <= set(mounts), f"{name}: mounts of the Job")


def check_production():
    documents = rendered("production")
    deployment = of_kind(documents, "Deployment")
    expect("replicas" not in deployment["spec"], "the autoscaler and the deployment both say how many")
    expect("@sha256:" in relay(documents)["containers"][0]["image"], "the digest is not used")
    names = [metric["type"] for metric in of_kind(documents, "HorizontalPodAutoscaler")["spec"]["metrics"]]
    expect(names == ["Resource", "Pods"], f"the autoscaler looks at {names}")
    rules = of_kind(documents, "PrometheusRule")["spec"]["groups"]
    alerts = [rule for group in rules for rule in group["rules"] if "alert" in rule]
    for alert in alerts:
        url = alert["annotations"].pop("runbook_url")
        expect(url == f"https://docs.example/operations.md#{alert['alert'].lower()}", url)
    same = yaml.safe_load((chart / "files/alerts.yaml").read_text())["groups"]
    for rule in (rule for group in same for rule in group["rules"] if "alert" in rule):
        del rule["annotations"]["runbook_url"]
    expect(rules == same, "the rules are changed on the way")
    dashboard = json.loads(of_kind(documents, "ConfigMap", "-dashboard")["data"]["handoff-relay.json"])
    expect(dashboard == json.loads((chart / "files/dashboard.json").read_text()), "the dashboard is changed on the way")
    monitor = of_kind(documents, "ServiceMonitor")["spec"]
    service = of_kind(documents, "Service", "-metrics")
    expect(monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items(), "the monitor finds no service")
    expect([e["port"] for e in monitor["endpoints"]] == [p["name"] for p in service["spec"]["ports"]], "the monitor's port")
    env = {variable["name"]: variable for variable in relay(documents)["containers"][0]["env"]}
    headers = env["OTEL_EXPORTER_OTLP_HEADERS"]["valueFrom"]["secretKeyRef"]
    expect(headers == {"name": "handoff-collector", "key": "headers"}, headers)
    expect("k8s.pod.name=$(POD_NAME)" in env["OTEL_RESOURCE_ATTRIBUTES"]["value"], "spans do not say which pod")
    part = "app.kubernetes.io/component"
    [job] = [p["containers"][0] for d, p in pods(documents) if d["metadata"]["labels"][part] == "load-test"]
    wanted = ["run", "campaign", "--url", "ws://test-handoff-relay:80", "--insecure"]
    expect(job["command"] == ["/handoff-load"] and job["args"] == wanted, job["args"])


def is_own(document):
    return document["apiVersion"].split("/")[0] in ("v1", "apps", "autoscaling", "batch", "networking.k8s.io", "policy")


def template(*flags):
    return subprocess.run([helm, "template", "test", str(chart), *flags], capture_output=True, text=True)


TRIAL = ["-f", str(chart / "ci/trial-values.yaml")]
ACTIVE = ["-f", str(chart / "ci/activation-values.yaml")]
ONE = ["--set", "settings.open.policy=anyone"]
# What is wrong, and a piece of what helm must say about it.
REFUSED = [
    ([], "settings.open.policy must be set"),
    ([*ONE, "--set", "replicas=2"], "needs redis.urls"),
    ([*ONE, "--set", "autoscaling.enabled=true"], "needs redis.urls"),
    ([*ONE, "--set", "replica=2"], "replica"),
    ([*ONE, "--set", "settings.session.lifetme=90s"], "lifetme"),
    ([*ONE, "--set", "settings.session.lifetime=181s"], "lifetime"),
    ([*ONE, "--set", "settings.drain.grace=1m"], "grace"),
    ([*ONE, "--set", "settings.limits.sessions=0"], "sessions"),
    ([*ONE, "--set", "settings.limits.sessions=many"], "sessions"),
    ([*ONE, "--set", "settings.network.refuse=everything"], "refuse"),
    ([*ONE, "--set", "settings.server.trusted_proxies={0.0.0.0/0}"], "trusted_proxies"),
    ([*ONE, "--set", "settings.server.listen=0.0.0.0:80"], "listen"),
    ([*ONE, "--set", "settings.redis.password=x"], "password"),
    ([*ONE, "--set", "redis.urls={redis://:secret@redis:6379}"], "urls"),
    ([*ONE, "--set", "pod.user=0"], "user"),
    ([*ONE, "--set", "image.digest=latest"], "digest"),
    ([*ONE, "--set", "ingress.enabled=true"], "ingress.host"),
    ([*ONE, "--set", "ingress.hashOnSession=true"], "nginx"),
    ([*ONE, "--set", "service.type=ExternalName"], "type"),
    ([*TRIAL, "--set", "redis.urls={redis://redis:6379}"], "choose one"),
    ([*TRIAL, "--set", "settings.redis.topology=cluster"], "topology"),
    ([*TRIAL, "--set", "settings.network.refuse=different"], "tagKeySecret"),
    ([*TRIAL, "--set", "autoscaling.enabled=true,autoscaling.minReplicas=11"], "minReplicas"),
    ([*ACTIVE, "--set", "activation.databaseSecret.name="], "databaseSecret"),
    ([*ACTIVE, "--set", "activation.keysSecret.name="], "keysSecret"),
    ([*ACTIVE, "--set", "settings.activation.public_url=null"], "public_url"),
    ([*ACTIVE, "--set", "settings.activation.public_url=https://relay.example/v1"], "public_url"),
    ([*ACTIVE, "--set", "settings.sms.gateway=null"], "settings.sms.gateway must be set"),
    ([*ACTIVE, "--set", "settings.sms.gateway=gatewayapi"], "smsTokenSecret"),
    ([*ACTIVE, "--set", "settings.sms.gateway=pigeon"], "gateway"),
    ([*ACTIVE, "--set", "settings.sms.gateway=http"], "settings.sms.url and settings.sms.body"),
    ([*ACTIVE, "--set", "settings.sms.url=http://sms.internal/send"], "url"),
    ([*ACTIVE, "--set", "settings.sms.body=to"], "body"),
    ([*ACTIVE, "--set", "settings.sms.token=x"], "token"),
    ([*ACTIVE, "--set", "settings.sms.report_key=x"], "report_key"),
    ([*ACTIVE, "--set", "settings.sms_second.gateway=outbox"], "gateway"),
    ([*ACTIVE, "--set", "settings.sms_second.gateway=twilio"], "smsSecondTokenSecret"),
    ([*ACTIVE, "--set", "activation.smsSecondTokenSecret.name=x"], "settings.sms_second.gateway is not"),
    ([*ACTIVE, "--set", "settings.activation.database_url=postgres://x"], "database_url"),
    ([*ACTIVE, "--set", "settings.activation.webhook_url=https://push.internal"], "webhookKeySecret"),
    ([*ACTIVE, "--set", "settings.activation.enabled=false"], "settings.activation.enabled is false"),
    ([*ACTIVE, "--set", "activation.enrolmentJwks.secret=a,activation.enrolmentJwks.configMap=b"], "name one"),
    ([*ONE, "--set", "traces.headersSecret.name=x"], "settings.traces.endpoint is not"),
    ([*ONE, "--set", "settings.traces.endpoint=http://collector:4318?key=x"], "endpoint"),
    ([*ONE, "--set", "httpRoute.enabled=true"], "parentRefs"),
    ([*ONE, "--set", "httpRoute.enabled=true,httpRoute.parentRefs[0].name=public"], "hostnames"),
    (["--set", "settings.open.policy=jwt"], "jwks"),
    (["--set", "settings.open.policy=jwt,jwks.secret=keys"], "audience"),
    (["--set", "settings.open.policy=jwt,settings.open.audience=a,jwks.secret=k,jwks.configMap=k"], "name one"),
]


def check_refusals():
    for flags, piece in REFUSED:
        ran = template(*flags)
        expect(ran.returncode != 0, f"{flags} is not refused")
        expect(piece in ran.stderr, f"{flags}: {ran.stderr}")
    for flags in ([*ONE], [*TRIAL], [*ACTIVE]):
        expect(template(*flags).returncode == 0, f"{flags} is refused")


def check_values():
    """Every value has words beside it, every setting of the program is in the chart or made by it, and no other."""
    lines = (chart / "values.yaml").read_text().splitlines()
    values = yaml.safe_load("\n".join(lines))
    schema = json.loads((chart / "values.schema.json").read_text())

    def walk(value, schema, path):
        expect(schema.get("additionalProperties") is False or "properties" not in schema, f"{path} takes anything")
        if "properties" in schema:
            missing = set(schema["properties"]) - set(value) - {"global"}
            expect(not missing, f"values.yaml does not show {path}: {missing}")
            for key, inner in schema["properties"].items():
                if key in value and isinstance(value[key], dict):
                    walk(value[key], inner, f"{path}.{key}")

    walk(values, schema, "values")
    for number, line in enumerate(lines):
        top = re.match(r"([a-zA-Z]+):", line)
        if top and top[1] not in ("fullnameOverride",):
            expect(lines[number - 1].startswith("#"), f"values.yaml says nothing about {top[1]}")

    printed = subprocess.run([handoff, "serve", "--print-config"], capture_output=True, text=True, check=True).stdout
    known, section = set(), ""
    for line in printed.splitlines():
        if match := re.match(r"\[(\w+)\]", line):
            section = match[1]
        elif match := re.match(r"(?:# )?(\w+) (?:=|is not set)", line):
            known.add(f"{section}.{match[1]}")
    shown = {f"{section}.{key}" for section, keys in values["settings"].items() for key in keys}
    made = {"server.listen", "server.metrics_listen", "server.tls_certificate", "server.tls_key", "network.tag_key",
            "open.jwks_file", "redis.url", "redis.password", "redis.certificate_authority", "activation.data_directory",
            "activation.database_url", "activation.enrolment_jwks_file", "activation.webhook_key", "sms.token", "sms.report_key",
            "sms_second.token", "sms_second.report_key"}
    unknown = (shown | made) - known
    expect(shown | made == known, f"not in the chart: {known - shown - made}; not in the program: {unknown}")
    return len(shown)


names = sorted(path.name.removesuffix("-values.yaml") for path in (chart / "ci").glob("*-values.yaml"))
for name in names:
    documents = rendered(name)
    expect(sorted(documents, key=json.dumps) == sorted(rendered(name, "helm3"), key=json.dumps), f"{name}: helm 3 and 4 disagree")
    for document, pod in pods(documents):
        check_restricted(name, document, pod)
    check_labels(name, documents)
    check_drain(name, documents)
    check_settings(name, documents)
    check_network(name, documents)
    check_metrics_are_not_public(name, documents)
    check_activation(name, documents)
check_production()
custom = [d for name in names for d in rendered(name) if not is_own(d)]
expect({d["kind"] for d in custom} == {"HTTPRoute", "PrometheusRule", "ServiceMonitor"}, "other custom resources than expected")
(folder / "custom.json").write_text(json.dumps(custom))
check_refusals()
settings = check_values()
print(f"chart: {len(names)} sets of values ({', '.join(names)}), {len(REFUSED)} wrong ones refused, {settings} settings")
