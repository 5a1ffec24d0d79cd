#!/usr/bin/env bash
# Refuses to start a node that could not serve: one line that says why and what helps, and exit code 2. Without this,
# a missing secret would show as pages of Erlang terms, and a missing plugin as nothing at all.
set -euo pipefail

definitions=/run/secrets/rabbitmq_definitions
plugins=/etc/rabbitmq/enabled_plugins

refuse() {
    echo "rabbitmq: $1" >&2
    exit 2
}

[[ -f $definitions && -r $definitions ]] \
    || refuse "no definitions in $definitions: run \`make secrets\`, then \`docker-compose up -d\`"
for plugin in rabbitmq_management rabbitmq_prometheus; do
    grep -q "$plugin" "$plugins" 2>/dev/null \
        || refuse "the plugin $plugin is not in $plugins: add it to deploy/rabbitmq/enabled_plugins"
done
# Erlang sizes tables by this limit, and the default of some engines is a billion.
files=$(ulimit -n)
[[ $files != unlimited && $files -le 65536 ]] || ulimit -n 65536
exec docker-entrypoint.sh "$@"
