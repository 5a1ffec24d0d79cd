#!/usr/bin/env bash
# Says in one line what is wrong with the node, or that nothing is. It asks each listener from here, as a client would;
# RabbitMQ's own tools would start an Erlang machine, a second of CPU each, every few seconds.
set -uo pipefail

unhealthy() {
    echo "unhealthy: $1"
    exit 1
}

# Whether a listener is at port $1. AMQP is not spoken: the node would log each check as a client that broke off.
listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Whether an HTTP server answers at port $1; that a port is open says little of a node that hangs.
answers() {
    local word=
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET / HTTP/1.0\r\n\r\n' >&3
    read -r -t 10 -N 5 -u 3 word
    exec 3>&-
    [[ $word == HTTP/ ]]
}

plugin() {
    answers "$2" 2>/dev/null || unhealthy \
        "the plugin $1 does not answer on port $2: add it to deploy/rabbitmq/enabled_plugins, or enable it again"
}

listens 5672 || unhealthy "nothing listens on the AMQP port 5672: the node is starting, or has stopped; read its log"
plugin rabbitmq_management 15672
plugin rabbitmq_prometheus 15692
echo "healthy: AMQP, management and metrics answer"
