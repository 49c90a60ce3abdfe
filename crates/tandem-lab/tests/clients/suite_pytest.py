"""Writes what came of each test, a line of JSON each, to the file that SUITE_OUTCOMES names."""

import json
import os

OUTCOMES = open(os.environ["SUITE_OUTCOMES"], "w", buffering=1)
SO_FAR = {}


def first_line(report):
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    return (text.splitlines() or [""])[0][:300]


def pytest_runtest_logreport(report):
    outcome, reason = SO_FAR.pop(report.nodeid, ("passed", ""))
    if outcome != "failed":
        if report.failed:
            outcome, reason = "failed", first_line(report)
        elif report.skipped and not hasattr(report, "wasxfail"):
            outcome = "skipped"
    if report.when != "teardown":
        SO_FAR[report.nodeid] = (outcome, reason)
        return
    line = {"test": report.nodeid, "outcome": outcome, "reason": reason}
    OUTCOMES.write(json.dumps(line) + "\n")
