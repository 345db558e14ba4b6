#!/usr/bin/env python3
"""Test records: one line a test, `outcome<TAB>stage<TAB>name<TAB>detail`.

  test_records.py junit STAGE XML RECORDS [DIRECTORY]
                                             appends the tests of a CTest JUnit file, prints failures;
                                             DIRECTORY: each is a program that wrote its tests to
                                             DIRECTORY/NAME.gtest.xml
  test_records.py check STAGE LOG RECORDS    appends the rules that scripts/check printed
  test_records.py summary RECORDS            prints what failed and was skipped, and the last line

`junit` exits 1 when a test failed, 2 when there is no test; `summary` exits 1 when a record failed.
"""

import os
import re
import sys
import xml.etree.ElementTree

# What CTest writes for a test that decided to be skipped. Every other reason for not running (no
# executable, a failed fixture) is a failure.
SKIPPED = re.compile(r"SKIP_RETURN_CODE|SKIP_REGULAR_EXPRESSION|Disabled")
SHOWN_LINES = 60


def skip_reason(output):
    """GoogleTest prints `file:line: Skipped` and then the reason."""
    match = re.search(r": Skipped\n(.+)", output)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return match.group(1).strip() if match else lines[0] if lines else "no reason given"


def programs_tests(stage, directory, case, passed, records):
    """Records each test of a program that ran all its tests in one process; the number that failed,
    None when the program does not say which."""
    program = case.get("name")
    try:
        root = xml.etree.ElementTree.parse(os.path.join(directory, f"{program}.gtest.xml")).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return None
    tests = root.findall("testsuite/testcase")
    failed = [test for test in tests if test.find("failure") is not None]
    if bool(failed) == passed or not tests:
        return None
    for test in tests:
        name, skipped = f"{test.get('classname')}.{test.get('name')}", test.find("skipped")
        if test in failed:
            records.write(f"fail\t{stage}\t{name}\tin {program}\n")
            print(f"  FAILED {name} in {program}")
            for failure in test.findall("failure"):
                print("    " + (failure.text or "").strip().replace("\n", "\n    "))
        elif skipped is not None or test.get("status") != "run":
            lines = skipped.get("message", "").splitlines() if skipped is not None else ["disabled"]
            records.write(f"skip\t{stage}\t{name}\t{lines[1] if len(lines) > 1 else lines[0]}\n")
        else:
            records.write(f"pass\t{stage}\t{name}\t\n")
    return len(failed)


def junit(stage, path, records, directory=None):
    try:
        cases = xml.etree.ElementTree.parse(path).getroot().findall("testcase")
    except (OSError, xml.etree.ElementTree.ParseError) as error:
        records.write(f"fail\t{stage}\tresults\t{error}\n")
        print(f"  FAILED {stage}: no readable test results: {error}")
        return 1
    failed = 0
    for case in cases:
        name, status = case.get("name"), case.get("status")
        output = case.findtext("system-out") or ""
        skipped = case.find("skipped")
        reason = skipped.get("message", "") if skipped is not None else ""
        if directory is not None:
            found = programs_tests(stage, directory, case, status == "run", records)
            if found is not None:
                failed += found
                continue
            if status == "run":
                status, reason = "fail", "does not say which tests it ran"
        if status == "run":
            records.write(f"pass\t{stage}\t{name}\t\n")
        elif status == "disabled" or SKIPPED.search(reason):
            records.write(f"skip\t{stage}\t{name}\t{skip_reason(output)}\n")
        else:
            failed += 1
            records.write(f"fail\t{stage}\t{name}\t{reason}\n")
            print(f"  FAILED {name}")
            for line in output.splitlines()[-SHOWN_LINES:]:
                print(f"    {line}".rstrip())
    return 1 if failed else 0 if cases else 2


def check(stage, path, records):
    outcomes = {"ok": "pass", "FAIL": "fail", "skip": "skip"}
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            match = re.match(r"(ok|FAIL|skip) +([^:]+): ?(.*)", line)
            if match:
                word, name, detail = match.groups()
                detail = {"ok": "", "FAIL": f"see {path}", "skip": detail}[word]
                records.write(f"{outcomes[word]}\t{stage}\t{name}\t{detail}\n")
    return 0


def summary(path):
    counts = {"pass": 0, "fail": 0, "skip": 0}
    shown = {"fail": [], "skip": []}
    with open(path, encoding="utf-8") as records:
        for line in records:
            outcome, stage, name, detail = line.rstrip("\n").split("\t", 3)
            counts[outcome] += 1
            if outcome in shown:
                shown[outcome].append(f"  {stage}: {name}" + (f": {detail}" if detail else ""))
    for outcome, title in (("skip", "Skipped:"), ("fail", "Failed:")):
        if shown[outcome]:
            print("\n".join([title, *shown[outcome]]))
    skipped = f", {counts['skip']} skipped" if counts["skip"] else ""
    print(f"{counts['pass']} passed, {counts['fail']} failed{skipped}")
    return 1 if counts["fail"] else 0


def main(arguments):
    if len(arguments) == 4 and arguments[0] == "check":
        with open(arguments[3], "a", encoding="utf-8") as records:
            return check(*arguments[1:3], records)
    if len(arguments) in (4, 5) and arguments[0] == "junit":
        with open(arguments[3], "a", encoding="utf-8") as records:
            return junit(*arguments[1:3], records, *arguments[4:])
    if len(arguments) == 2 and arguments[0] == "summary":
        return summary(arguments[1])
    print(__doc__, file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
