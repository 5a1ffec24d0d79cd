#!/bin/sh
# Prints a line for each change of a VM's status, with a plain AMQP client: Debian's amqp-tools.
#
#   log_status.sh BROKER LOGIN_FILE [PORT]        lines of the file: username:engine.worker, password:...
#
# The queue is this run's own and ends with it: what happens while nobody runs this is not printed. The key that binds
# it selects the type of event, for amqp-consume hands a message's body to a command's stdin, but not its headers.
set -eu

if [ "${1:-}" = print ]; then
    event=$(cat)
    # Quotes within a text are escaped in JSON, so no name of a VM can pass for a field.
    field() { printf '%s' "$event" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
    printf '%s %s on %s: %s (was %s)\n' "$(date -u +%FT%TZ)" "$(field vm)" "$(field host)" "$(field status)" \
        "$(field previousStatus)"
    exit
fi

exec amqp-consume --server="${1:?a broker}" --port="${3:-5672}" --authfile="${2:?a file with user and password}" \
    --queue="vmpulse.worker.log-status-$$" --exclusive --exchange=vmpulse.fleet --routing-key='vm.status.#' "$0" print
