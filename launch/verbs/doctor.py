"""Say what this machine can do and what is missing.

    cacl doctor

It fails only where something is broken that every job needs.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""


def main(arguments: argparse.Namespace) -> int:
    """Print what was found, one line each; return 1 if something that every job needs is broken."""
    from launch.jobs.doctor import examine

    broken = []
    for finding in examine():
        print(f"{finding.state:<8} {finding.name:<20} {finding.text}")
        if finding.is_core and finding.state == "BROKEN":
            broken.append(finding.name)
    print(
        f"broken, and needed by everything: {', '.join(broken)}" if broken else "what every job needs is here"
    )
    return 1 if broken else 0
