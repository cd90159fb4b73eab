"""How the interpreter was built. One without profile-guided optimization (PGO) is slower.

setup.sh runs this file with each interpreter that it may choose, before any package is installed.
"""

import platform
import sys
import sysconfig

SLOWER_PERCENT = 10
"""Instructions that an answer takes more without PGO, at least. docs/performance.md has the measurement."""


def is_optimized() -> bool:
    """Return whether the interpreter was built with PGO.

    Debian and Ubuntu build theirs with it by commands of their own, and not by configure's option.
    """
    return "--enable-optimizations" in _options() or "deb_system" in sysconfig.get_scheme_names()


def description() -> str:
    """Return the version and the build, as in `3.13.5 (PGO, LTO)`."""
    build = ["PGO" if is_optimized() else "no PGO"]
    if "--with-lto" in _options():
        build.append("LTO")
    return f"{platform.python_version()} ({', '.join(build)})"


def shortcoming() -> str:
    """Return a sentence for people if the interpreter is slower than it could be, or else nothing."""
    if is_optimized():
        return ""
    return (
        f"Python {platform.python_version()} is built without profile-guided optimization: "
        f"an answer takes some {SLOWER_PERCENT} % more CPU."
    )


def log_shortcoming() -> None:
    """Log a warning if the interpreter is slower than it could be."""
    import structlog  # noqa: PLC0415 - not installed where setup.sh runs this file

    if sentence := shortcoming():
        structlog.get_logger().warning("slow_interpreter", complaint=sentence)


def _options() -> str:
    return str(sysconfig.get_config_var("CONFIG_ARGS"))


def rank() -> int:
    """Return a number that is the greater the better an interpreter is: PGO counts first, then the version."""
    return sys.version_info.minor if is_optimized() else 0


if __name__ == "__main__":
    import ssl  # noqa: F401 - Debian has interpreters without most of the standard library

    sys.stdout.write(f"{rank()} {getattr(sys, '_base_executable', sys.executable)}\n")
