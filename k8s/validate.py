"""`python -m k8s.validate`: render the manifests offline, check schemas and our own rules, print a table.

Ends with 0 when nothing is wrong, with 1 when something is: then every finding names its resource and field.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from k8s.gateway_rules import GATEWAY_RULES
from k8s.manifests import Finding, Manifests
from k8s.render import render
from k8s.rules import POD_RULES
from k8s.schema_check import check_schema

FOLDER = Path(__file__).parent
KUSTOMIZATIONS = ("base", "overlays/single-host")
RULES = (*POD_RULES, *GATEWAY_RULES)


@dataclass(frozen=True)
class Check:
    """One thing that was checked: what, against what, and what is wrong."""

    subject: str
    against: str
    findings: tuple[Finding, ...]


def check(manifests: Manifests) -> list[Check]:
    """All checks of one kustomization: each resource's schema, then our rules, which take the schemas for granted."""
    checks = []
    for resource in manifests.resources:
        findings, schema = check_schema(resource)
        checks.append(Check(resource.name, schema, tuple(findings)))
    if any(done.findings for done in checks):
        return checks
    checks += [Check("rule", rule.__name__.replace("_", " "), tuple(rule(manifests))) for rule in RULES]
    return checks


def main() -> int:
    """Check all kustomizations and print a table of each."""
    console = Console()
    findings: list[Finding] = []
    for name in KUSTOMIZATIONS:
        manifests, renderer = render(FOLDER / name)
        table = Table(title=f"k8s/{name}, rendered by {renderer}", title_justify="left")
        for column in ("what", "checked against", "outcome"):
            table.add_column(column, overflow="fold")
        for done in check(manifests):
            outcome = "[red]" + "\n".join(map(str, done.findings)) if done.findings else "[green]ok"
            table.add_row(done.subject, done.against, outcome)
            findings += done.findings
        console.print(table)
    for finding in findings:
        console.print(f"[red]wrong:[/red] {finding}", highlight=False, soft_wrap=True)
    console.print("[red]not valid" if findings else "[green]all valid")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
