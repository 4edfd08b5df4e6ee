#!/bin/sh
# Adds three orders to the set "example-orders" with nothing but redis-cli: see foreign_producer.py.
#
#   sh foreign_producer.sh redis-cli -s SOCKET          sh foreign_producer.sh valkey-cli -h HOST -p PORT

set -e
for number in 1 2 3; do
    sleep 0.4
    sent=$(printf '%d.%06d' $("$@" TIME))
    "$@" <<COMMANDS
HSET {example-orders}:values cli-$number '{"id": "cli-$number", "sent": $sent}'
ZADD example-orders NX $number cli-$number
ZADD example-orders NX $number cli-$number
COMMANDS
done
