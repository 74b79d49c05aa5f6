"""What is told of a program that could not be made: the compiler's own word, not what went well before it."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest
import yaml

ROLE = Path(__file__).resolve().parents[2] / "roles" / "programs"
VARIABLES = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
MISTAKE = jinja2.Template(VARIABLES["_programs_mistake"]).render(VARIABLES)
# pip, cmake and make as they speak where all is well.
WELL = """Looking in links: /var/lib/deployer/home/wheels
Processing /var/lib/deployer/home/wheels/Jinja2-3.1.4-py3-none-any.whl
Installing collected packages: urllib3, tqdm, Jinja2
Successfully installed Jinja2-3.1.4 tqdm-4.67.1 urllib3-2.2.3
WARNING: Running pip as the 'root' user can result in broken permissions
-- The C compiler identification is GNU 11.4.0
-- Detecting CXX compile features - done
[ 50%] Building CXX object CMakeFiles/chat.dir/chat.cpp.o
"""
SAID = {
    "compiler": (
        "/s/chat.cpp:17:10: fatal error: bmruntime_interface.h: No such file or directory\n"
        '   17 | #include "bmruntime_interface.h"\n'
        "      |          ^~~~~~~~~~~~~~~~~~~~~~~\n"
        "compilation terminated.\nmake[2]: *** [build.make:76: CMakeFiles/chat.dir/chat.cpp.o] Error 1\n"
        "make: *** [Makefile:91: all] Error 2\n",
        "bmruntime_interface.h: No such file",
    ),
    "type": (
        "/s/chat.cpp:9:1: error: 'bm_handle_t' does not name a type\n    9 | bm_handle_t h;\n",
        "does not name a type",
    ),
    "linker": (
        "/usr/bin/ld: /s/support/lib_pcie/libbmrt.so: file not recognized: file format not recognized\n"
        "collect2: error: ld returned 1 exit status\nmake: *** [Makefile:91: all] Error 2\n",
        "collect2: error",
    ),
    "symbol": (
        "chat.cpp:(.text+0x1f): undefined reference to `bmrt_create_ex'\n",
        "undefined reference to `bmrt_create_ex'",
    ),
    "library": ("/usr/bin/ld: cannot find -lbmrt: No such file or directory\n", "cannot find -lbmrt"),
    "cmake": (
        "CMake Error at CMakeLists.txt:12 (find_package):\n"
        '  By not providing "Findpybind11.cmake" in CMAKE_MODULE_PATH this project has\n'
        '  asked CMake to find a package configuration file provided by "pybind11", but\n'
        "-- Configuring incomplete, errors occurred!\n",
        'provided by "pybind11"',
    ),
    "submodule": (
        "CMake Error at CMakeLists.txt:33 (add_subdirectory):\n  The source directory\n\n    /s/third_party/re2\n",
        "CMakeLists.txt:33 (add_subdirectory)",
    ),
    "pip": ("ERROR: No matching distribution found for transformers==4.45.1\n", "transformers==4.45.1"),
    "shell": ("/bin/sh: 4: cmake: not found\n", "cmake: not found"),
    "room": ("cc1plus: fatal error: error writing to /tmp/x.s: No space left on device\n", "No space left on device"),
}


@pytest.mark.parametrize("name", SAID)
def test_mistake_is_found_and_nothing_of_what_went_well(name: str) -> None:
    text, wanted = SAID[name]
    found = "\n".join(re.findall(MISTAKE, WELL + text))
    assert wanted in found
    assert not set(found.splitlines()) & set(WELL.splitlines())


def test_nothing_wrong_is_no_mistake() -> None:
    assert re.findall(MISTAKE, WELL) == []


def test_expression_has_no_group_that_would_hide_the_line() -> None:
    assert re.compile(MISTAKE).groups == 0
