"""The harness is tested harder than what it tests: planted faults, controls, clean cells."""
