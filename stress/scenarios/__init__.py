"""Scenarios that try to break Pounce. Each is one module with `TOOLS`, the outside programs that it needs, and either
`run(setting, report)` or, with a command line of its own, `main(arguments)`."""
