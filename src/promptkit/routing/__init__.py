"""Where a call goes next: faults and their hints, health lanes, the plan and the flow. All pure."""
