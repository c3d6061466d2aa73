"""Known vulnerabilities of what is installed, by pip-audit, in a few lines: a report, which never fails.

    python .ci/audit.py [SECONDS]

It ends with 0 whatever is found, also where the advisory service does not answer within SECONDS (60) or does not know
the packages: that is said in one line.
"""

import json
import subprocess
import sys


def summary(report: str) -> list[str]:
    """The lines to print for pip-audit's JSON."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return ["pip-audit: the advisory service gave no answer that can be read: nothing was checked."]
    checked = [package for package in packages if "vulns" in package]
    if not checked:
        return [f"pip-audit: the advisory service knows none of {len(packages)} packages here: nothing was checked."]
    found = [
        f"  {package['name']} {package['version']}: {vulnerability['id']}, "
        f"mended in {', '.join(vulnerability['fix_versions']) or 'no release yet'}"
        for package in checked
        for vulnerability in package["vulns"]
    ]
    known = f"{len(found)} known vulnerabilities" if found else "no known vulnerability"
    return [f"pip-audit: {known} in {len(checked)} of {len(packages)} packages that could be checked.", *found]


def main(seconds: float) -> None:
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        ended = subprocess.run([*command, "--skip-editable"], capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        print(f"pip-audit: the advisory service did not answer within {seconds:.0f} s: nothing was checked.")
        return
    print("\n".join(summary(ended.stdout)))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60)
