"""What takes longer than a test suite may: `python -m stress` lists it.

    kit/        what the two programs share: servers, clients, load generators, meters, reports
    scenarios/  tries to break Pounce; each scenario ends in a verdict
    bench/      what Pounce costs, beside other servers; figures depend on the machine
    apps/       the applications that are served

Standard library only, Linux only (it reads /proc), and no process is ended that was not started here. Both programs
import the kit; neither imports the other.
"""
