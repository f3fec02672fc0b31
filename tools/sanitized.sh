#!/bin/sh
# Run Python tests over a package that was built with AddressSanitizer and UndefinedBehaviorSanitizer:
# `sanitized.sh PACKAGE REPORTS PYTEST-ARGUMENTS…`.
#
# PACKAGE comes first on the path of this Python and of everything that it starts, workers and usnet-serve included
# (`python -P` leaves out the working folder, not PYTHONPATH). Python itself is not built with a sanitizer, so the
# runtimes are preloaded; the network process, which is linked with them, does not mind. Python allocates with malloc,
# so that a misuse of an object is seen as well. What Python leaves behind at its end is not ours: no leak is reported.
#
# A report ends its process, and a child that ends is replaced: the tests might pass over it. So every process writes
# its report, an abort() included, into REPORTS, and a file there is a failure. GCC's UndefinedBehaviorSanitizer heeds
# its log_path in some processes only, so it aborts, which AddressSanitizer reports with the stack; and a runtime that
# is first loaded with the extension would point both at stderr, so both are preloaded.
set -eu

package=$1
reports=$2
shift 2
rm -rf "$reports"
mkdir -p "$reports"
log=$(cd "$reports" && pwd)/report
package=$(cd "$package" && pwd)

status=0
runtimes="$("${CC:-cc}" -print-file-name=libasan.so) $("${CC:-cc}" -print-file-name=libubsan.so)"
env LD_PRELOAD="$runtimes" PYTHONPATH="$package" PYTHONMALLOC=malloc \
    ASAN_OPTIONS="detect_leaks=0:handle_abort=1:log_path=$log" \
    UBSAN_OPTIONS="halt_on_error=1:abort_on_error=1:print_stacktrace=1:log_path=$log" \
    sh -c 'python -P -c "import sys, usnet_framework as package
sys.exit(not package.__file__.startswith(sys.argv[1]))" "$PYTHONPATH" && exec pytest "$@"' sh "$@" || status=$?

for report in "$reports"/*; do
    [ -e "$report" ] || continue
    echo "sanitized: $report" >&2
    cat "$report" >&2
    status=1
done
exit "$status"
