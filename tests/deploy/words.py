"""Alert rules, dashboard and docs/operations.md against a running relay: every metric, label, value, alert and log line
that one of them names exists, and none is left out.

    words.py CHART HANDOFF
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.request

import yaml

chart, handoff = pathlib.Path(sys.argv[1]), sys.argv[2]
operations = pathlib.Path("docs/operations.md").read_text()


def expect(condition, what):
    if not condition:
        sys.exit(f"words.py: {what}")


def exposed():
    """The metrics of a relay that has just started: labels with their values by name."""
    command = [handoff, "serve", "--listen", "127.0.0.1:0", "--json", "--log", "error"]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as relay:
        try:
            address = json.loads(relay.stdout.readline())["address"]
            text = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
        finally:
            relay.kill()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    labels = {name: {} for name in kinds}
    for name, inside in re.findall(r"^(\w+)\{(.*)\} ", text, re.M):
        for label, value in re.findall(r'(\w+)="([^"]*)"', inside):
            labels.get(name, labels.get(base(name, kinds), {})).setdefault(label, set()).add(value)
    return kinds, labels


def base(name, kinds):
    parts = re.fullmatch(r"(.*)_(?:bucket|sum|count)", name)
    return parts[1] if parts and kinds.get(parts[1]) == "histogram" else name


kinds, labels = exposed()
# Labels that Prometheus adds, and those of histograms.
ADDED = {"job", "instance", "namespace", "le"}


def check_expression(where, expression, recorded=()):
    named = set()
    for name, selector in re.findall(r"\b((?:handoff|process)_\w+)(?:\{([^}]*)\})?", expression):
        found = base(name, kinds)
        expect(found in kinds, f"{where}: there is no metric {name}")
        expect((found != name) == (kinds[found] == "histogram"), f"{where}: {name} is a {kinds[found]}")
        named.add(found)
        for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', selector or ""):
            if label in ADDED:
                continue
            expect(label in labels[found], f"{where}: {found} has no label {label}")
            for one in value.split("|") if "~" in operator else [value]:
                known = labels[found][label]
                matched = [k for k in known if (re.fullmatch(one, k) if "~" in operator else one == k)]
                expect(matched, f"{where}: {label} of {found} is never {one}, but {sorted(known)}")
    for name in re.findall(r"\bhandoff:\w+(?::\w+)?", expression):
        expect(name in recorded, f"{where}: nothing records {name}")
    return named


def check_rules():
    groups = yaml.safe_load((chart / "files/alerts.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    alerts = [rule for rule in rules if "alert" in rule]
    used = set()
    for rule in rules:
        used |= check_expression(rule.get("alert") or rule["record"], rule["expr"], recorded)
    used_records = {name for rule in rules for name in re.findall(r"handoff:\w+:\w+", rule["expr"])}
    expect(recorded <= used_records, f"recorded for nothing: {recorded - used_records}")

    files = sorted(pathlib.Path("tests/deploy").glob("alerts*_test.yaml"))
    tests = [test for file in files for test in yaml.safe_load(file.read_text())["tests"]]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for alert in alerts:
        name = alert["alert"]
        expect(alert["labels"]["severity"] in ("page", "ticket"), name)
        expect(alert["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}", name)
        outcomes = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == name}
        expect(outcomes == {True, False}, f"{name}: no test in which it fires, or none in which it is quiet")
    return [alert["alert"] for alert in alerts], used


def check_dashboard():
    dashboard = json.loads((chart / "files/dashboard.json").read_text())
    used, queries = set(), []
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        expect(panel["description"] and panel["targets"], panel["title"])
        for target in panel["targets"]:
            used |= check_expression(panel["title"], target["expr"])
            queries.append(target["expr"])
    boxes = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [(x, y) for b in boxes for x in range(b["x"], b["x"] + b["w"]) for y in range(b["y"], b["y"] + b["h"])]
    expect(len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24, "panels of the dashboard overlap")
    # As rules, because promtool reads those without a server.
    filled = [re.sub(r"\$__rate_interval", "1m", query).replace("$job", ".*").replace("$instance", ".*") for query in queries]
    rules = {"groups": [{"name": "dashboard", "rules": [{"record": f"q:{n}", "expr": q} for n, q in enumerate(filled)]}]}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(rules, file)
        file.flush()
        ran = subprocess.run(["promtool", "check", "rules", "--lint=none", file.name], capture_output=True, text=True)
    expect(ran.returncode == 0, f"dashboard: {ran.stdout}{ran.stderr}")
    return used, len(queries)


def check_runbooks(alerts):
    section = operations.split("\n## Alerts\n")[1].split("\n## ")[0]
    headings = re.findall(r"^### (\w+)$", section, re.M)
    expect(headings == alerts, f"runbooks and alerts differ: {set(headings) ^ set(alerts)}, or their order")
    for text in section.split("\n### ")[1:]:
        name = text.split("\n")[0]
        for part in ("What it means.", "How to see.", "What to do.", "What not to do."):
            expect(len(re.findall(rf"^- \*\*{re.escape(part)}\*\* \S", text, re.M)) == 1, f"{name}: {part}")
    titles = re.findall(r"^#+ (.*)$", operations, re.M)
    anchors = {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}
    for anchor in re.findall(r"\]\(#([^)]+)\)", operations):
        expect(anchor in anchors, f"docs/operations.md: #{anchor} leads nowhere")
    for page in ("docs/operations.md", "docs/capacity.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", pathlib.Path(page).read_text()):
            expect(target.startswith("http") or (pathlib.Path("docs") / target).exists(), f"{page}: {target} is missing")


def check_metrics():
    table = operations.split("\n## Metrics\n")[1]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| .+ \|$", table, re.M)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", names))) for name, kind, names in rows}
    expect(set(documented) == set(kinds), f"metrics that only one side has: {set(documented) ^ set(kinds)}")
    for name, (kind, names) in documented.items():
        expect(kind == kinds[name], f"{name} is a {kinds[name]}")
        expect(names == set(labels[name]) - ADDED, f"{name} has the labels {set(labels[name]) - ADDED}")
    known = lambda name: base(name, kinds) in kinds
    for page in (operations, pathlib.Path("docs/capacity.md").read_text()):
        for name in re.findall(r"`((?:handoff|process)_\w+)", page):
            expect(known(name), f"the documents name {name}, which does not exist")


def check_log():
    """Every line at info and above that the relay can write has its row, and no row is about a line that is gone."""
    table = operations.split("\n## The log\n")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(.+?)` \| (info|warn|error) \|", table, re.M))
    written = {}
    for folder in ("app.rs", "app", "activation", "edge", "relay", "directory", "cli/serve.rs"):
        root = pathlib.Path("src") / folder
        for path in [root] if root.is_file() else sorted(root.rglob("*.rs")):
            if "tests" in path.parts or path.name == "tests.rs":
                continue
            for level, arguments in re.findall(r"\b(info|warn|error)!\((.*?)\)[;,]?\n", path.read_text(), re.S):
                if text := re.search(r'"((?:[^"{\\]|\\"){5,})"\s*,?\s*$', arguments):
                    written[text[1].replace('\\"', '"')] = level
    expect(documented == written, f"log lines that only one side has: {set(documented.items()) ^ set(written.items())}")
    return len(written)


alerts, in_rules = check_rules()
in_dashboard, queries = check_dashboard()
check_runbooks(alerts)
check_metrics()
lines = check_log()
unseen = set(kinds) - in_dashboard - in_rules
expect(not unseen, f"on no panel and in no rule: {unseen}")
print(f"words: {len(kinds)} metrics, {len(alerts)} alerts with runbooks, {queries} queries of the dashboard, {lines} log lines")
