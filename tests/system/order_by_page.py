"""Inside a booted system: orders the plan of an action as the page does. ACTION TOKEN; prints what comes back."""

import json
import sys
import urllib.request

PAGE = "http://127.0.0.1:9457"


def main(action: str, token: str) -> int:
    with urllib.request.urlopen(f"{PAGE}/view", timeout=20) as answer:
        plans = json.load(answer)["plans"]
    plan = next((each for each in plans if each["order"] and each["order"]["action"] == action), None)
    if plan is None:
        print("no such plan:", [each["title"] for each in plans])
        return 1
    order = {"token": token, "action": action, "targets": plan["order"]["targets"], "seen": plan["fingerprint"]}
    order["typed"] = plan["order"]["type"]
    headers = {"Content-Type": "application/json", "Origin": PAGE}
    request = urllib.request.Request(f"{PAGE}/order", json.dumps(order).encode(), headers)
    with urllib.request.urlopen(request, timeout=300) as answer:
        lines = [json.loads(line) for line in answer]
    print("\n".join(str(line) for line in lines))
    return 0 if lines[-1]["result"] == "done" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
